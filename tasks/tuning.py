"""The steps of searching ensemble weight and mask threshold: the split, the search, the record."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow.csv as pc
import pyarrow.parquet as pq

from ovseg.analysis.tuning_report import markdown, show_tuning
from ovseg.benchmark_config import BenchmarkConfig, TuneConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.tuning import TUNING, TUNING_COUNTS, check_training_side
from ovseg.settings import PipelineConfig, parse_fractions
from ovseg.storage import Manifest
from tasks.mlflow_run import reported
from tasks.stages import run
from tasks.tracking import TrackedRun

__all__ = ["check_request", "record_tuning", "search", "show_tuning", "tuning_config"]


def check_request(
    config: PipelineConfig,
    arm: str | None,
    split: Path | None,
    *,
    weights: str | None = None,
    thresholds: str | None = None,
) -> tuple[str, dict[str, tuple[float, ...]]]:
    """The arm that is tuned and the values tried, once the request is found sound.

    Raises:
        OvsegError: no benchmark or no such arm, a split that is not there, or none where the run
            draws no scenes to mine; values that are no numbers from 0 to 1.
    """
    given = {"weights": weights, "thresholds": thresholds}
    parsed = {name: parse_fractions(text, f"--{name}") for name, text in given.items()}
    if not config.benchmarks:
        raise OvsegError(f"preset {config.preset} has no benchmark whose ensemble could be tuned")
    chosen = arm if arm is not None else next(iter(config.arms))
    if chosen not in config.arms:
        raise OvsegError(f"there is no arm {chosen!r}; choose one of {', '.join(config.arms)}")
    if split is None and config.mining_world is None:
        raise OvsegError(
            "give --split FOLDER: labelled images of the training side, as images/, labels/ and"
            " classes.txt"
        )
    if split is not None and not split.is_dir():
        raise OvsegError(f"--split {split} is no folder: give images/, labels/ and classes.txt")
    return chosen, {name: values for name, values in parsed.items() if values}


def tuning_config(
    config: PipelineConfig,
    worlds: Mapping[str, Manifest],
    *,
    arm: str,
    split: Path | None,
    tried: Mapping[str, tuple[float, ...]],
    limit: int | None,
    allow_validation: bool,
) -> TuneConfig:
    """The search a person asked for, on scenes of the mining part where no split is given.

    Raises:
        OvsegError: if the split is a validation set and that is not allowed.
    """
    setting = config.benchmarks[0]
    root = split.resolve() if split is not None else worlds["world/mining"].payload()
    kind = "training"
    try:
        check_training_side(root, config.benchmarks)
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
        **tried,
    )


def search(config: PipelineConfig, setting: TuneConfig, checkpoint: Manifest | None) -> Manifest:
    """Score every setting, or find what was scored."""
    inputs = {"checkpoint": checkpoint} if checkpoint else {}
    counts = run(TUNING_COUNTS, setting, inputs, config.root, label=f"tune {setting.arm}")
    inputs = {"counts": counts}
    return run(TUNING, setting, inputs, config.root, label=f"compare settings of {setting.arm}")


@reported
def record_tuning(run: TrackedRun, config: PipelineConfig, tuned: Manifest) -> None:
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
    table = io.BytesIO()
    pc.write_csv(pq.read_table(tuned.payload()), table)
    run.text(table.getvalue().decode(), "tuning.csv")
    run.manifest("tuning", tuned, upload=True)
