"""Search ensemble weight and mask threshold of an arm on training-side images.

    ovseg tune-ensemble --preset storybook

The first benchmark of the configuration sets how images are segmented; its images are rejected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.finetune import train_arms
from ovseg.config.request import tuning_request
from ovseg.config.resolved import ScoringPreset, resolved
from ovseg.stages.manifest import Manifest
from tasks.prefect_page import run_name
from tasks.progress import bars
from tasks.tracking.tracked_run import track
from tasks.tuning import record_tuning, search, tuning_config
from tasks.worlds import draw


@flow(
    name="tune-ensemble",
    flow_run_name=run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=2),
)
def tune_ensemble(
    preset: ScoringPreset = "storybook",
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: dict[str, Any] | None = None,
    split: Path | None = None,
    arm: str | None = None,
    weights: str | None = None,
    thresholds: str | None = None,
    limit: int | None = None,
    allow_validation: bool = False,
) -> Manifest:
    """Tune the ensemble of one arm.

    Args:
        preset: What to tune.
        root: Folder of all results; defaults to the preset's own.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        seed: Seed of the training order and, in the storybook, of the choice of unseen classes.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists.
        split: Folder of labelled images; defaults to the mined scenes.
        arm: Arm whose CLIP is used, trained first if needed; defaults to the first.
        weights: Ensemble weights to try, such as `0.5,0.6`.
        thresholds: Mask thresholds to try, likewise.
        limit: Use only the first n images of the split.
        allow_validation: Allow a validation set; the table says so.

    Returns:
        The manifest of the table.
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
    chosen, tried = tuning_request(config, arm, split, weights=weights, thresholds=thresholds)
    with track("tune-ensemble", root=config.root, uri=config.tracking.uri) as tracked, bars():
        run = draw(config, mining=split is None or config.scores_pairs)
        phases = run.config.arms[chosen]
        alone = run.of(run.config.model_copy(update={"arms": {chosen: phases}}))
        trained = train_arms(alone) if phases else {}
        setting = tuning_config(
            run.config,
            run.worlds,
            arm=chosen,
            split=split,
            tried=tried,
            limit=limit,
            allow_validation=allow_validation,
        )
        tuned = search(run.config, setting, trained.get(chosen))
        record_tuning(tracked, run.config, tuned)
    return tuned
