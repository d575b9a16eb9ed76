"""Adapt CLIP to masked regions: a curation query over the pair table, then each arm's phases.

    ovseg finetune --preset storybook

Arms that begin alike share their first phase: a checkpoint is named by what it was made from.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.mine import mine
from ovseg.config.run import PipelineConfig
from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_catalog
from tasks.mining import by_source, with_contexts
from tasks.progress import bars
from tasks.scoring import remember, trace
from tasks.tracking.records import record_training
from tasks.tracking.tracked_run import track
from tasks.training import curate, train_arm
from tasks.worlds import draw


@flow(
    name="finetune",
    flow_run_name="finetune {config.preset} seed {config.seed}",
    task_runner=ThreadPoolTaskRunner(max_workers=1),
    validate_parameters=False,
)
def finetune(config: PipelineConfig, tables: list[Path] | None = None) -> dict[str, Manifest]:
    """Train every arm of a configuration on what its curation query selects.

    Args:
        config: the whole run; its curation and arms are used.
        tables: folders of published pair tables; mined first where empty.

    Returns:
        The checkpoint's manifest by arm; the arm that trains nothing is left out.
    """
    with track("finetune", root=config.root, uri=config.tracking_uri) as tracked, bars():
        if tables is None:
            pairs = [mine(each)["table"] for each in by_source(config)]
        else:
            pairs = [Manifest.read(folder) for folder in tables]
        config, _ = draw(config)
        config = with_contexts(config)
        curated = curate(config, pairs)
        trained = {arm: train_arm(config, arm, curated, pairs) for arm in config.arms}
        checkpoints = {arm: phases[-1] for arm, phases in trained.items() if phases}
        arms = {f"checkpoint/{arm}": manifest for arm, manifest in checkpoints.items()}
        curves = {arm: trace(config, arm, phases) for arm, phases in trained.items()}
        traced = {f"curve/{arm}": made[-1] for arm, made in curves.items() if made}
        publish_catalog(config.root, {"curated": curated, **arms, **traced})
        memories = {
            arm: remember(config, config.serving, arm, checkpoint, pairs)
            for arm, checkpoint in checkpoints.items()
        }
        record_training(tracked, config, curated, trained, curves, memories)
    return checkpoints
