"""Ablations: every cell of a table mined, trained and scored, then compared with intervals.

    ovseg ablate ensemble --preset storybook
    ovseg ablate all --preset storybook --seeds 3

All cells of a seed share `<root>/seed-<n>`, so what they have in common is computed once. After an
interruption, the same command resumes; if a cell fails, it is reported and the others continue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.benchmark import score_arms
from flows.finetune import train_arms
from flows.mine import mine_pairs
from ovseg.cli.ablations import plan_request
from ovseg.config.resolved import Preset
from ovseg.stages.manifest import Manifest
from tasks.ablations import (
    Outcomes,
    describe,
    once,
    record_cell,
    record_page,
    record_table,
)
from tasks.mining import by_source
from tasks.progress import bars
from tasks.tracking.tracked_run import track
from tasks.worlds import draw


@flow(name="ablations", flow_run_name="ablations of {preset}: {tables}")
def ablate(
    tables: list[str],
    preset: Preset = "storybook",
    seeds: int = 1,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    overrides: dict[str, Any] | None = None,
    out: Path | None = None,
) -> Outcomes:
    """Run tables of ablations and write the results.

    Args:
        tables: Their names, or `all`; `ovseg ablate` lists them.
        preset: The starting point of every cell.
        seeds: Number of seeds; cells that claims depend on run with each, others with seed 0.
        root: Folder of all results, `<root>/seed-<n>` for each seed; defaults to the preset's own
            with `-ablations` appended.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        overrides: Settings of every cell, by the dotted names that `ovseg settings` lists.
        out: Markdown page to write, with its plots in a folder of the same name, outside of the
            results; defaults to no page.

    Returns:
        The outcome of each cell, and the compared tables.

    Raises:
        OvsegError: for a request that cannot be run; at the end, if a cell failed.
    """
    plan = plan_request(
        tables,
        preset,
        seeds=seeds,
        root=root,
        captions=captions,
        images=images,
        overrides=overrides,
        out=out,
    )
    outcomes, mined = Outcomes(plan), once(mine_pairs)
    with track(plan.title, root=plan.root, uri=plan.tracking_uri) as tracked, bars():
        describe(tracked, plan)
        for planned in plan.tables:
            name = f"ablation/{planned.name}"
            with track(name, root=plan.root, uri=tracked.uri) as parent:
                for cell in outcomes.runs(planned, tracked.uri):
                    name = f"{planned.name}/{cell.name} seed {cell.config.seed}"
                    with (
                        outcomes.attempt(cell),
                        track(name, root=plan.root, uri=tracked.uri) as child,
                    ):
                        checkpoints: dict[str, Manifest] = {}
                        pairs: list[Manifest] = []
                        run = draw(cell.config, mining=cell.config.scores_pairs)
                        for config in outcomes.rounds(run.config):
                            adapted, of_round = checkpoints.get(cell.arm), run.of(config)
                            sources = [mined(each, adapted) for each in by_source(of_round)]
                            pairs = [each["table"] for each in sources]
                            checkpoints = train_arms(of_round, pairs)
                        scores = score_arms(run, checkpoints, pairs)
                        record_cell(child, cell, outcomes.keep(cell, scores))
                record_table(parent, planned, outcomes.compare(planned), outcomes)
        outcomes.publish(out)
        record_page(tracked, outcomes)
    outcomes.conclude()
    return outcomes
