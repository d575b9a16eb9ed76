"""The steps of adapting CLIP: a curation query, then each arm's phases."""

from __future__ import annotations

from collections.abc import Sequence

from ovseg.config.mining import load_curation
from ovseg.config.run import RunConfig
from ovseg.mining.pairs.curation import CURATE
from ovseg.stages.manifest import Manifest
from ovseg.training.clip.stage import FINETUNE
from tasks.run import run


def tables_by_role(tables: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return pair tables as inputs of a stage: `table`, and further ones as `table/<source>`."""
    roles = ["table", *(f"table/{table.config['source']}" for table in tables[1:])]
    return dict(zip(roles, tables, strict=True))


def curate(config: RunConfig, tables: Sequence[Manifest]) -> Manifest:
    """Select the training pairs with the configured query."""
    selected = load_curation(config.curation)
    return run(CURATE, selected, tables_by_role(tables), config.root, label="curate pairs")


def train_arm(
    config: RunConfig, arm: str, curated: Manifest, tables: Sequence[Manifest]
) -> list[Manifest]:
    """Train an arm's phases in order, each from the previous checkpoint.

    Returns:
        The checkpoint of each phase; empty for the arm that trains nothing.
    """
    inputs = {"curated": curated, **tables_by_role(tables)}
    checkpoints: list[Manifest] = []
    for phase in config.phases[arm]:
        label = f"{arm}: {phase.trains.replace('_', ' ')}"
        checkpoints.append(run(FINETUNE, phase, inputs, config.root, label=label))
        inputs = {**inputs, "checkpoint": checkpoints[-1]}
    return checkpoints
