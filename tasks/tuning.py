"""The steps of searching ensemble weight and mask threshold: split, search, record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ovseg.catalog.csv_cells import csv_text
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig, TuneConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.tuning import TUNING, TUNING_COUNTS, check_training_side
from ovseg.files.parquet_files import read_parquet
from ovseg.report.tuning import markdown, show_tuning
from ovseg.stages.manifest import Manifest
from tasks.run import run
from tasks.tracking.mlflow_run import never_fails_the_run
from tasks.tracking.tracked_run import TrackedRun

__all__ = ["record_tuning", "search", "show_tuning", "tuning_config"]


def tuning_config(
    config: RunConfig,
    worlds: Mapping[str, Manifest],
    *,
    arm: str,
    split: Path | None,
    tried: Mapping[str, tuple[float, ...]],
    limit: int | None,
    allow_validation: bool,
) -> TuneConfig:
    """Configure the requested search; the split defaults to scenes of the mining part.

    Raises:
        OvsegError: if the split is a validation set and that is not allowed.
    """
    setting = config.scored[0]
    root = split.resolve() if split is not None else worlds["world/mining"].payload()
    kind = "training"
    try:
        check_training_side(root, config.scored)
    except OvsegError:
        if not allow_validation:
            raise
        kind = "validation"
    own = setting.benchmark if setting.benchmark == "storybook" else root.name
    changed = {"benchmark": own, "root": root, "limit": limit, "seen_split": "", "oracle": "none"}
    return TuneConfig(
        arm=arm,
        benchmark=BenchmarkConfig(**{**setting.model_dump(), **changed}),
        split=kind,
        max_bad_fraction=setting.max_bad_fraction,
        **tried,
    )


def search(config: RunConfig, setting: TuneConfig, checkpoint: Manifest | None) -> Manifest:
    """Score every setting, unless done."""
    inputs = {"checkpoint": checkpoint} if checkpoint else {}
    counts = run(TUNING_COUNTS, setting, inputs, config.root, label=f"tune {setting.arm}")
    inputs = {"counts": counts}
    return run(TUNING, setting, inputs, config.root, label=f"compare settings of {setting.arm}")


@never_fails_the_run
def record_tuning(run: TrackedRun, config: RunConfig, tuned: Manifest) -> None:
    """Log every setting's scores as a table, and the best as metrics."""
    best = tuned.stats["best"]
    run.tags({"preset": config.preset, "stage": "tune", "arm": tuned.stats["arm"]})
    run.note(markdown(tuned))
    run.values(tuned.config)
    run.metrics(
        {
            f"best/{tuned.stats['metric']}": best["value"],
            "best/mask_threshold": best["mask_threshold"],
            "best/ensemble_weight": best["ensemble_weight"],
        }
    )
    run.text(csv_text(read_parquet(tuned.payload())), "tuning.csv")
    run.manifest("tuning", tuned, upload=True)
