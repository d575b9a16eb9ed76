"""Mine pairs: captions to nouns, images to proposals, both to the published pair table.

    ovseg mine --preset storybook

Leaves the staging stages, `tables/pairs` and a catalogue to query under the root folder.
"""

from __future__ import annotations

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from ovseg.analysis.tables import PAIR_TABLE
from ovseg.data.source import IMAGES
from ovseg.mining.noun_stage import NOUNS
from ovseg.mining.pairing import PAIRS
from ovseg.mining.proposals import PROPOSALS
from ovseg.mining.texts import TEXTS
from ovseg.presets import PipelineConfig
from ovseg.storage import Manifest
from tasks.catalog import check_catalog, publish_catalog
from tasks.progress import bars
from tasks.records import record_mining
from tasks.stages import run
from tasks.tracking import track
from tasks.worlds import draw


@flow(name="mine", task_runner=ThreadPoolTaskRunner(max_workers=4), validate_parameters=False)
def mine(config: PipelineConfig) -> dict[str, Manifest]:
    """Mine the pair table of a configuration; whatever is already whole is not computed again.

    Args:
        config: the whole run; only its mining part is used.

    Returns:
        The manifests by role: images, nouns, proposals, texts, pairs, table.
    """
    root = config.root
    with track("mine", root=root, uri=config.tracking_uri) as tracked, bars():
        config = draw(config)
        images = run(IMAGES, config.images, {}, root, label="read images and captions")
        nouns = run(NOUNS, config.nouns, {"images": images}, root, label="nouns")
        proposals = run(PROPOSALS, config.proposals, {"images": images}, root, label="proposals")
        texts = run(TEXTS, config.texts, {"nouns": nouns}, root, label="embed nouns")
        parts = {"images": images, "nouns": nouns, "proposals": proposals, "texts": texts}
        pairs = run(PAIRS, config.pairing, parts, root, label="pair nouns with proposals")
        table = run(PAIR_TABLE, config.table, {"pairs": pairs}, root, label="pair table")
        mined = {**parts, "pairs": pairs, "table": table}
        publish_catalog(root, mined)
        record_mining(tracked, config, mined, failed=check_catalog(root))
    return mined
