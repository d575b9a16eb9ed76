"""The phases of all arms, trained side by side, and the learning curve of each arm.

Arms that begin with the same phases share them. Trainings start before the scoring of snapshots,
because later phases wait for trainings and nothing waits for scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovseg.config.run import RunConfig
from ovseg.stages.manifest import Manifest
from ovseg.stages.threads import cores
from ovseg.training.clip.stage import FINETUNE
from tasks.mining import tables_by_role
from tasks.run import run
from tasks.scoring import curved_arms, draw_curve, trace_phase
from tasks.side_by_side import Job, Jobs

Prefix = tuple[str, ...]
"""Digests of an arm's first phases."""


def train_and_trace(
    config: RunConfig, curated: Manifest, tables: Sequence[Manifest]
) -> tuple[dict[str, list[Manifest]], dict[str, list[Manifest]]]:
    """Train every arm, each phase from the previous checkpoint, and score its snapshots.

    Args:
        config: the whole run.
        curated: the selected pairs.
        tables: the pair tables they were selected from.

    Returns:
        By arm, the checkpoint of each phase, empty for the arm that trains nothing; and by arm, its
        scored phases in order and, last, its learning curve, empty for an arm without snapshots.
    """
    jobs = Jobs()
    trained: dict[Prefix, Job[Manifest]] = {}
    prefixes: dict[str, list[Prefix]] = {}
    for arm, phases in config.phases.items():
        digests = tuple(phase.digest() for phase in phases)
        prefixes[arm] = [digests[: number + 1] for number in range(len(phases))]
        for number, prefix in enumerate(prefixes[arm]):
            if prefix not in trained:
                before = trained.get(prefix[:-1])
                call = (config, arm, number, curated, tables, before)
                trained[prefix] = jobs.add(train_phase, *call)
    points: dict[Prefix, Job[Manifest]] = {}
    arms = curved_arms(config)
    for arm in arms:
        for number, prefix in enumerate(prefixes[arm]):
            if prefix not in points:
                before = trained.get(prefix[:-1])
                points[prefix] = jobs.add(trace_phase, config, arm, number, trained[prefix], before)
    jobs.run(config.execution.workers or cores())
    checkpoints = {arm: [trained[each].result for each in own] for arm, own in prefixes.items()}
    curves: dict[str, list[Manifest]] = {arm: [] for arm in config.arms}
    for arm in arms:
        scored = [points[prefix].result for prefix in prefixes[arm]]
        curves[arm] = [*scored, draw_curve(config, arm, scored)]
    return checkpoints, curves


def train_phase(
    config: RunConfig,
    arm: str,
    number: int,
    curated: Manifest,
    tables: Sequence[Manifest],
    before: Manifest | None,
) -> Manifest:
    """Train one phase of an arm.

    Args:
        config: the whole run.
        arm: the arm.
        number: of the phase, from 0.
        curated: the selected pairs.
        tables: the pair tables they were selected from.
        before: checkpoint of the previous phase; None for the first.
    """
    phase = config.phases[arm][number]
    inputs = {"curated": curated, **tables_by_role(tables)}
    if before is not None:
        inputs["checkpoint"] = before
    label = f"{arm}: {phase.trains.replace('_', ' ')}"
    return run(FINETUNE, phase, inputs, config.root, label=label)
