"""Mine pairs: captions to nouns, images to proposals, both to the published pair table.

    ovseg mine --preset storybook
    ovseg mine --preset storybook --source gt_label --source gt_noun

Writes the staging stages, `tables/pairs` and a catalog to query under the root folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from ovseg.config.resolved import Preset, resolved
from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_checked
from tasks.mining import (
    by_source,
    check_models,
    embed_nouns,
    find_nouns,
    pair,
    propose_masks,
    publish_table,
    read_images,
)
from tasks.prefect_page import run_name, show_funnel
from tasks.progress import bars
from tasks.steps import step
from tasks.tracking.records import record_mining
from tasks.tracking.tracked_run import track
from tasks.worlds import Drawn, draw


@step("mine")
def mine_pairs(run: Drawn, adapted: Manifest | None = None) -> dict[str, Manifest]:
    """Mine the pair table of one source; finished stages are not recomputed.

    Args:
        run: of one source of pairs; only its mining part is used.
        adapted: for a further mining round: the checkpoint, trained on the previous round, that
            chooses the masks in place of the original CLIP.

    Returns:
        The manifests by role: images, nouns, proposals, texts, pairs, table, and the inputs of the
        screening.
    """
    config = run.config
    with track("mine", root=config.root, uri=config.tracking.uri) as tracked, bars():
        check_models(config)
        source = read_images(config)
        images = source["images"]
        nouns = find_nouns(config, images)
        proposals = propose_masks(config, images)
        texts = embed_nouns(config, nouns, adapted)
        parts = {"images": images, "nouns": nouns, "proposals": proposals, "texts": texts}
        pairs = pair(config, parts, adapted)
        mined = {**source, **parts, "pairs": pairs, "table": publish_table(config, pairs)}
        checked = publish_checked(config.root, mined)
        show_funnel(config)
        record_mining(tracked, config, mined, run.worlds, failed=checked.failed)
        checked.stop_if_blocked()
    return mined


@flow(name="mining", flow_run_name=run_name)
def mine(
    preset: Preset = "storybook",
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, dict[str, Manifest]]:
    """Mine the pairs of a preset.

    Args:
        preset: What to mine.
        root: Folder of all results; defaults to the preset's own.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        seed: Seed of the choice of unseen classes in the storybook; defaults to 0.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists.

    Returns:
        The manifests of each source of pairs, by role.
    """
    config = resolved(
        preset, root=root, captions=captions, images=images, seed=seed, overrides=overrides
    )
    with bars():
        return {each.config.source: mine_pairs(each) for each in by_source(draw(config))}
