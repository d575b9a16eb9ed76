"""What each flow records in MLflow: plain functions over manifests, called in the flow process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from ovseg.analysis.summary import Summary, markdown, metrics
from ovseg.config import BenchmarkConfig
from ovseg.settings import PipelineConfig
from ovseg.storage import Manifest
from tasks.tracking import TrackedRun


def _numbers(prefix: str, stats: Mapping[str, object]) -> dict[str, float]:
    """The numeric stats of a stage, nested ones joined by slashes."""
    flat: dict[str, float] = {}
    for key, value in stats.items():
        name = f"{prefix}/{key}".replace(":", ".").replace(",", " ")
        if isinstance(value, Mapping):
            flat.update(_numbers(name, value))
        elif isinstance(value, int | float):
            flat[name] = float(value)
    return flat


def record_mining(
    run: TrackedRun,
    config: PipelineConfig,
    mined: Mapping[str, Manifest],
    worlds: Mapping[str, Manifest],
    *,
    failed: Sequence[str],
) -> None:
    """Log a mined pair table, the stages it came from, and the table checks that failed."""
    run.params(config)
    run.metrics({"failed_checks": len(failed)})
    run.text("".join(f"{name}\n" for name in failed), "failed-checks.txt")
    for role, manifest in {**worlds, **mined}.items():
        run.metrics(_numbers(role, manifest.stats))
        run.manifest(role, manifest)
    run.dataset(f"{config.pairing.dataset}-pairs", mined["table"], context="mining")


def record_training(
    run: TrackedRun,
    config: PipelineConfig,
    curated: Manifest,
    trained: Mapping[str, Sequence[Manifest]],
) -> None:
    """Log the training set's SQL, and of each arm the loss curves and the checkpoints."""
    run.params(config)
    run.text(curated.config["sql"], f"curation/{curated.config['query']}.sql")
    run.manifest("curated", curated)
    run.dataset(f"{config.pairing.dataset}-curated", curated, context="training")
    for arm, phases in trained.items():
        for number, (phase, manifest) in enumerate(zip(config.arms[arm], phases), start=1):
            last = number == len(phases)
            run.manifest(f"checkpoint/{arm}/{number}-{phase.trains}", manifest, upload=last)
            log = pq.read_table(manifest.payload() / "training_log.parquet").to_pylist()
            keys = ("loss", "learning_rate", "logit_scale")
            run.series(log, prefix=f"{arm}/{phase.trains}", keys=keys)
        if phases:
            clip = phases[-1].payload()
            run.model(f"ovseg-{config.preset}", clip=clip, settings=config.serving, arm=arm)


def record_benchmark(
    run: TrackedRun,
    setting: BenchmarkConfig,
    arm: str,
    result: Manifest,
    scores: Manifest,
) -> None:
    """Log one arm's scores on one benchmark, with the per-class table."""
    run.text(setting.model_dump_json(indent=1), "benchmark.json")
    run.metrics({f"{arm}/{metric}": value for metric, value in scores.stats["scores"].items()})
    run.manifest(f"benchmark/{arm}", result)
    run.manifest(f"scores/{arm}", scores, upload=True)
    run.dataset(setting.benchmark, result, context="evaluation")


def record_report(
    run: TrackedRun,
    summary: Summary,
    truth: Manifest | None,
    sheet: Manifest | None,
) -> None:
    """Log the run's summary and pictures, and the catalogue as it now stands."""
    run.file(run.root / "catalog.json")
    run.references("catalog", [run.root / "catalog.duckdb"])
    run.metrics(metrics(summary))
    run.text(markdown(summary), "summary.md")
    run.text(summary.model_dump_json(indent=1), "summary.json")
    if truth is not None:
        run.manifest("pair-truth", truth)
    if sheet is not None:
        run.manifest("contact-sheet", sheet, upload=True)
