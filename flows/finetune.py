"""Adapt CLIP to masked regions: a curation query over the pair table, then each arm's phases.

    ovseg finetune --preset storybook

Arms that begin alike share their first phase: a checkpoint is named by what it was made from.
"""

from __future__ import annotations

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.mine import mine
from ovseg.analysis.curation import CURATE, load_curation
from ovseg.presets import PipelineConfig
from ovseg.storage import Manifest
from ovseg.training.finetune import FINETUNE
from tasks.catalog import publish_catalog
from tasks.progress import bars
from tasks.records import record_training
from tasks.stages import run
from tasks.tracking import track
from tasks.worlds import draw


@flow(name="finetune", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=False)
def finetune(config: PipelineConfig, table: Manifest | None = None) -> dict[str, Manifest]:
    """Train every arm of a configuration on what its curation query selects.

    Args:
        config: the whole run; its curation and arms are used.
        table: a published pair table; mined first where empty.

    Returns:
        The checkpoint's manifest by arm; the arm that trains nothing is left out.
    """
    root = config.root
    with track("finetune", root=root, uri=config.tracking_uri) as tracked, bars():
        pairs = table or mine(config)["table"]
        config = draw(config)
        curation = load_curation(config.curation)
        curated = run(CURATE, curation, {"table": pairs}, root, label="curate")
        checkpoints: dict[str, Manifest] = {}
        for arm, phases in config.arms.items():
            inputs = {"curated": curated, "table": pairs}
            for phase in phases:
                label = f"{arm}: {phase.trains.replace('_', ' ')}"
                checkpoints[arm] = run(FINETUNE, phase, inputs, root, label=label)
                inputs = {**inputs, "checkpoint": checkpoints[arm]}
        arms = {f"checkpoint/{arm}": manifest for arm, manifest in checkpoints.items()}
        publish_catalog(root, {"curated": curated, **arms})
        record_training(tracked, config, curation, curated, checkpoints)
    return checkpoints
