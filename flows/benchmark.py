"""Score every arm on every benchmark of a configuration.

    ovseg benchmark --preset storybook

All arms share proposals, templates and thresholds: only CLIP's weights differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows.finetune import train_arms
from flows.mine import mine_pairs
from ovseg.config.resolved import ScoringPreset, resolved
from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_catalog
from tasks.mining import by_source, with_contexts
from tasks.prefect_page import run_name
from tasks.progress import bars
from tasks.scoring import by_role, score, scoring_inputs
from tasks.steps import step
from tasks.tracking.records import record_benchmark, record_scores
from tasks.tracking.tracked_run import track
from tasks.worlds import Drawn, draw


@step("benchmark")
def score_arms(
    run: Drawn,
    checkpoints: Mapping[str, Manifest] | None = None,
    tables: Sequence[Manifest] = (),
) -> dict[str, Manifest]:
    """Benchmark the arms of a run.

    Args:
        run: its arms and benchmarks are used.
        checkpoints: of each trained arm; trained first if None.
        tables: published pair tables, for arms to train and benchmarks that retrieve mined
            regions; mined first if either needs them and there are none.

    Returns:
        The scores' manifest by `<benchmark>/<arm>`.
    """
    config, scored = run.config, {}
    uri = config.tracking.uri
    with track("benchmark", root=config.root, uri=uri, join=True), bars():
        trains = checkpoints is None and any(config.arms.values())
        remembers = any(setting.retrieval_weight for setting in config.scored)
        if not tables and (trains or remembers):  # no mining for models as they are
            tables = [mine_pairs(each)["table"] for each in by_source(run)]
        if checkpoints is None:
            checkpoints = train_arms(run, tables) if trains else {}
        config = with_contexts(config)
        for setting in config.scored:
            name = setting.benchmark
            with track(f"benchmark/{name}", root=config.root, uri=uri) as tracked:
                parts = scoring_inputs(config, setting, checkpoints, tables)
                measured = score(config, setting, parts)
                publish_catalog(config.root, by_role(measured))
                for arm, (result, scores) in measured.items():
                    record_benchmark(tracked, config, setting, arm, parts[arm], result, scores)
                    scored[f"{name}/{arm}"] = scores
                record_scores(tracked, config, setting, scored)
    return scored


@flow(name="benchmarking", flow_run_name=run_name)
def benchmark(
    preset: ScoringPreset = "storybook",
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Manifest]:
    """Score the arms of a preset, after any mining and training that is missing.

    Args:
        preset: What to score; may be a preset of imported checkpoints.
        root: Folder of all results; defaults to the preset's own.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        seed: Seed of the training order and, in the storybook, of the choice of unseen classes.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists.

    Returns:
        The scores' manifest by `<benchmark>/<arm>`.
    """
    config = resolved(
        preset,
        root=root,
        captions=captions,
        images=images,
        seed=seed,
        overrides=overrides,
        mines=False,
    )
    with bars():
        return score_arms(draw(config, mining=config.scores_pairs))
