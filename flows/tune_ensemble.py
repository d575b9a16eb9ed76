"""Search ensemble weight and mask threshold of an arm on training-side images.

    ovseg tune-ensemble --preset storybook

The first benchmark of the configuration says how images are segmented; its own images are refused.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from flows.finetune import finetune
from ovseg.config.request import tuning_request
from ovseg.config.run import PipelineConfig
from ovseg.stages.manifest import Manifest
from tasks.progress import bars
from tasks.tracking.tracked_run import track
from tasks.tuning import record_tuning, search, tuning_config
from tasks.worlds import draw


@flow(
    name="tune-ensemble",
    flow_run_name="tune-ensemble {config.preset} seed {config.seed}",
    task_runner=ThreadPoolTaskRunner(max_workers=2),
    validate_parameters=False,
)
def tune_ensemble(
    config: PipelineConfig,
    split: Path | None = None,
    *,
    arm: str | None = None,
    weights: str | None = None,
    thresholds: str | None = None,
    limit: int | None = None,
    allow_validation: bool = False,
) -> Manifest:
    """Tune the ensemble of one arm.

    Args:
        config: the whole run.
        split: folder of labelled images; the scenes that are mined where empty.
        arm: whose CLIP; the first where empty. Trained first where it trains something.
        weights: ensemble weights to try, as `0.5,0.6`.
        thresholds: mask thresholds to try, likewise.
        limit: the first n images of the split.
        allow_validation: a validation set will do; the table says so.

    Returns:
        The manifest of the table.
    """
    chosen, tried = tuning_request(config, arm, split, weights=weights, thresholds=thresholds)
    with track("tune-ensemble", root=config.root, uri=config.tracking_uri) as tracked, bars():
        trained = finetune(config) if config.arms[chosen] else {}
        config, worlds = draw(config)
        setting = tuning_config(
            config,
            worlds,
            arm=chosen,
            split=split,
            tried=tried,
            limit=limit,
            allow_validation=allow_validation,
        )
        tuned = search(config, setting, trained.get(chosen))
        record_tuning(tracked, config, tuned)
    return tuned
