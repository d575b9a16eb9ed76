"""The whole chain: captions and images to pairs, adapted CLIPs and their benchmark.

    ovseg run --preset storybook

Run it again and nothing is recomputed: every stage is found by its digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.benchmark import score_arms
from flows.finetune import train_arms
from flows.mine import mine_pairs
from flows.report import report
from ovseg.config.resolved import Preset, resolved
from ovseg.config.run import RunConfig
from tasks.mining import by_source
from tasks.prefect_page import run_name, show_mlflow_run, show_scores, show_summary
from tasks.progress import bars
from tasks.scoring import Summary
from tasks.tracking.records import record_start
from tasks.tracking.tracked_run import track
from tasks.worlds import draw


@flow(name="pipeline", flow_run_name=run_name)
def pipeline(
    preset: Preset = "storybook",
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: dict[str, Any] | None = None,
) -> Summary:
    """Run a preset from end to end.

    Args:
        preset: What to run: storybook is the embedded world, minutes on a CPU; paper is OVSeg's
            recipe and gated the same with our gates, both for a GPU.
        root: Folder of all results; reuse it to resume a run; defaults to the preset's own, such
            as runs/storybook.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's
            data.
        images: Folder or URL of the images that the captions name; needs captions.
        seed: Seed of the training order and, in the storybook, of the choice of unseen classes;
            defaults to 0.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists, such as
            `{"models.clip": "ViT-B-16/openai", "arms.epochs": 1}`.

    Returns:
        The main numbers of the run.
    """
    config = resolved(
        preset, root=root, captions=captions, images=images, seed=seed, overrides=overrides
    )
    return whole_chain(config)


def whole_chain(config: RunConfig) -> Summary:
    """Run a configuration from end to end, inside a flow."""
    title = f"{config.preset} seed {config.seed}"
    with track(title, root=config.root, uri=config.tracking.uri) as tracked, bars():
        record_start(tracked, config)
        run = draw(config)
        mined = [mine_pairs(each) for each in by_source(run)]
        tables = [each["table"] for each in mined]
        checkpoints = train_arms(run, tables)
        scored = score_arms(run, checkpoints, tables)
        summary = report(run, mined[0], checkpoints, scored)
        show_scores(config, summary)
        show_summary(config, summary, tracked)
        show_mlflow_run(config, tracked)
    return summary
