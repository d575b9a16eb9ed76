"""Mine pairs: captions to nouns, images to proposals, both to the published pair table.

    ovseg mine --preset storybook
    ovseg mine --preset storybook --source gt_label --source gt_noun

Leaves the staging stages, `tables/pairs` and a catalogue to query under the root folder.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.config.run import PipelineConfig
from ovseg.stages.manifest import Manifest
from tasks.catalog import check_catalog, publish_catalog
from tasks.mining import (
    check_models,
    embed_nouns,
    find_nouns,
    pair,
    propose_masks,
    publish_table,
    read_images,
)
from tasks.prefect_page import show_funnel
from tasks.progress import bars
from tasks.tracking.records import record_mining
from tasks.tracking.tracked_run import track
from tasks.worlds import draw


@flow(
    name="mine",
    flow_run_name="mine {config.preset} seed {config.seed}",
    task_runner=ThreadPoolTaskRunner(max_workers=4),
    validate_parameters=False,
)
def mine(config: PipelineConfig, adapted: Path | None = None) -> dict[str, Manifest]:
    """Mine the pair table of a configuration; whatever is already whole is not computed again.

    Args:
        config: the whole run, of one source of pairs; only its mining part is used.
        adapted: of a further mining round: folder of the checkpoint, trained on the round before,
            that chooses the masks in place of the original CLIP.

    Returns:
        The manifests by role: images, nouns, proposals, texts, pairs, table, and what the
        images were screened by.
    """
    with track("mine", root=config.root, uri=config.tracking_uri) as tracked, bars():
        check_models(config)
        config, worlds = draw(config)
        source = read_images(config)
        images = source["images"]
        nouns = find_nouns(config, images)
        proposals = propose_masks(config, images)
        texts = embed_nouns(config, nouns, adapted)
        parts = {"images": images, "nouns": nouns, "proposals": proposals, "texts": texts}
        pairs = pair(config, parts, adapted)
        mined = {**source, **parts, "pairs": pairs, "table": publish_table(config, pairs)}
        publish_catalog(config.root, mined)
        show_funnel(config)
        record_mining(tracked, config, mined, worlds, failed=check_catalog(config.root))
    return mined
