"""The steps of adapting CLIP: a curation query, then each arm's phases."""

from __future__ import annotations

from ovseg.analysis.curation import CURATE, load_curation
from ovseg.settings import PipelineConfig
from ovseg.storage import Manifest
from ovseg.training.finetune import FINETUNE
from tasks.stages import run


def curate(config: PipelineConfig, table: Manifest) -> Manifest:
    """Select the training pairs with the configured query."""
    return run(
        CURATE, load_curation(config.curation), {"table": table}, config.root, label="curate pairs"
    )


def train_arm(
    config: PipelineConfig, arm: str, curated: Manifest, table: Manifest
) -> list[Manifest]:
    """Train an arm's phases in order, each from the checkpoint before it.

    Returns:
        The checkpoint of each phase; none for the arm that trains nothing.
    """
    inputs = {"curated": curated, "table": table}
    checkpoints: list[Manifest] = []
    for phase in config.arms[arm]:
        label = f"{arm}: {phase.trains.replace('_', ' ')}"
        checkpoints.append(run(FINETUNE, phase, inputs, config.root, label=label))
        inputs = {**inputs, "checkpoint": checkpoints[-1]}
    return checkpoints
