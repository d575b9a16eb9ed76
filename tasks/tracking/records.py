"""The MLflow records of each flow: plain functions over manifests, called in the flow process.

They never fail a run: a stage that cannot be read is logged as a tracking error.

A run's page has its description, its main numbers and its files; all counts of a stage are in the
manifests below `stages`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ovseg.catalog.csv_cells import csv_text
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.training import FinetuneConfig
from ovseg.files.escaping import code, escaped
from ovseg.files.parquet_files import read_parquet
from ovseg.files.urls import redacted
from ovseg.report.stage import report_file
from ovseg.report.summary import COLUMNS, Summary, markdown, metrics
from ovseg.stages.manifest import Manifest
from tasks.tracking import descriptions as notes
from tasks.tracking.mlflow_run import never_fails_the_run
from tasks.tracking.tracked_run import TrackedRun, track

MINING_FIELDS = ("data", "models", "mining")
TRAINING_FIELDS = ("models", "curation")
COUNTED = {
    "images/read": ("images", "n"),
    "images/kept": ("images", "kept"),
    "nouns/mentions": ("nouns", "mentions"),
    "nouns/kept": ("nouns", "kept"),
    "nouns/distinct": ("texts", "nouns"),
    "proposals/found": ("proposals", "proposals"),
    "proposals/kept": ("proposals", "kept"),
    "pairs/found": ("pairs", "pairs"),
    "pairs/kept": ("pairs", "kept"),
    "pairs/mutual_best": ("pairs", "mutual_best"),
}
"""The metrics of mining: a stage's role and its count."""


def model_name(config: RunConfig) -> str:
    """Return the name of a preset's registered model."""
    return f"ovseg-{config.preset}"


def _about(config: RunConfig, stage: str) -> dict[str, str]:
    return {"preset": config.preset, "seed": str(config.seed), "stage": stage}


def _seconds(manifest: Manifest) -> float:
    """Return how long a stage's shards took to compute."""
    run = json.loads((manifest.folder / "run.json").read_text(encoding="utf-8"))
    return float(sum(run["seconds"].values()))


@never_fails_the_run
def record_start(run: TrackedRun, config: RunConfig) -> None:
    """Describe a whole run before it starts."""
    run.inherit({"preset": config.preset, "seed": str(config.seed)})
    run.tags({"stage": "pipeline"})
    run.note(notes.pipeline_note(run, config))
    run.params(config)


@never_fails_the_run
def record_mining(
    run: TrackedRun,
    config: RunConfig,
    mined: Mapping[str, Manifest],
    worlds: Mapping[str, Manifest],
    *,
    failed: Sequence[str],
) -> None:
    """Log a mined pair table, the stages it came from, and the table checks that failed."""
    tags = {"table": mined["table"].digest, "source": config.source}
    run.tags({**_about(config, "mine"), **tags})
    run.note(notes.mining_note(run, mined, failed))
    run.params(config, MINING_FIELDS)
    run.metrics({"failed_checks": len(failed)})
    run.text("".join(f"{name}\n" for name in failed) or "all passed\n", "failed-checks.txt")
    run.metrics({key: mined[role].stats[name] for key, (role, name) in COUNTED.items()})
    run.metrics({f"seconds/{role}": _seconds(manifest) for role, manifest in mined.items()})
    for number, (role, manifest) in enumerate({**worlds, **mined}.items(), start=1):
        run.manifest(f"{number}-{role.replace('/', '-')}", manifest)
    run.dataset(f"{config.data.dataset}-pairs", mined["table"], context="mining")


# --------------------------------------------------------------------------------------
# Training


@never_fails_the_run
def record_training(
    run: TrackedRun,
    config: RunConfig,
    curated: Manifest,
    trained: Mapping[str, Sequence[Manifest]],
    curves: Mapping[str, Sequence[Manifest]],
    memories: Mapping[str, Manifest | None],
) -> None:
    """Log the training set's SQL and the learning curves, and each trained arm in a child run.

    Args:
        run: the run of the flow.
        config: of the whole run.
        curated: the training set.
        trained: the checkpoints of each arm's phases.
        curves: for each arm, the scored phases and, last, the learning curve; may be empty.
        memories: for each trained arm, the regions that its model retrieves from, if any.
    """
    run.tags({**_about(config, "finetune"), "curated": curated.digest})
    run.params(config, TRAINING_FIELDS)
    run.text(curated.config["sql"], f"curation/{curated.config['query']}.sql")
    run.metrics({key: curated.stats[key] for key in ("pairs", "nouns", "images")})
    run.manifest("1-curated", curated)
    run.dataset(f"{config.data.dataset}-curated", curated, context="training")
    for arm, phases in trained.items():
        if phases:
            tags = {**_about(config, "train"), "arm": arm, "checkpoint": phases[-1].digest}
            with track(f"finetune/{arm}", root=run.root, uri=run.uri, tags=tags) as child:
                _record_arm(child, config, arm, curated, phases, memories[arm])
                if curves[arm]:
                    _record_curve(run, child, arm, curves[arm])
    run.note(notes.training_note(run, config, curated, curves))


def _record_arm(
    run: TrackedRun,
    config: RunConfig,
    arm: str,
    curated: Manifest,
    phases: Sequence[Manifest],
    memory: Manifest | None,
) -> None:
    """Log one arm: its phases' settings, its losses over the steps of all phases, its model."""
    settings: Sequence[FinetuneConfig] = config.phases[arm]
    run.values({"arm": arm, "phases": " + ".join(phase.trains for phase in settings)})
    run.values({str(n): phase.result_fields() for n, phase in enumerate(settings, start=1)})
    run.dataset(f"{config.data.dataset}-curated", curated, context="training")
    before, seconds = 0, 0.0
    for manifest in phases:
        log = read_parquet(manifest.payload() / "training_log.parquet").to_pylist()
        keys = ("loss", "learning_rate", "logit_scale")
        run.series(log, prefix="train", keys=keys, before=before)
        before, seconds = before + len(log), seconds + _seconds(manifest)
    run.metrics({"train/seconds": seconds, "train/steps": before})
    run.model(
        model_name(config),
        clip=phases[-1].payload(),
        settings=config.serving,
        regions=memory.payload() if memory else None,
        arm=arm,
        description=notes.model_note(run, config, arm, curated),
        about=notes.about_model(config),
        tags={
            "preset": config.preset,
            "seed": str(config.seed),
            "curated": curated.digest,
            "checkpoint": phases[-1].digest,
        },
    )
    model = run.registered[arm].uri if arm in run.registered else None
    for number, (phase, manifest) in enumerate(zip(settings, phases), start=1):
        # the last phase is the model and is uploaded with it
        uploaded = model if number == len(phases) else None
        run.manifest(f"{number}-{phase.trains}", manifest, model=uploaded)
    run.note(notes.arm_note(run, config, arm, curated, model))


def _record_curve(run: TrackedRun, child: TrackedRun, arm: str, made: Sequence[Manifest]) -> None:
    """Log the learning curve as series over the steps of all phases, on each run's page."""
    *scored, curve = made
    points = read_parquet(curve.payload()).to_pylist()
    for part in notes.PARTS:
        key = f"gt_mask_accuracy_{part}"
        rows = [
            {key: point["gt_mask_accuracy"], "step": point["total_step"]}
            for point in points
            # the start of a phase is the end of the previous one: one point per step
            if point["part"] == part and (point["step"] > 0 or point["phase"] == 1)
        ]
        run.series(rows, prefix=arm, keys=(key,))
        child.series(rows, prefix="learning_curve", keys=(key,))
    child.manifest("learning-curve", curve)
    for number, phase in enumerate(scored, start=1):
        child.manifest(f"{number}-snapshots-scored", phase)


# --------------------------------------------------------------------------------------
# Scores


@never_fails_the_run
def record_benchmark(
    run: TrackedRun,
    config: RunConfig,
    setting: BenchmarkConfig,
    arm: str,
    parts: Mapping[str, Manifest],
    result: Manifest,
    scores: Manifest,
) -> None:
    """Log one arm's scores on one benchmark in a child run, next to those of the other arms.

    Args:
        run: of the benchmark.
        config: of the whole run.
        setting: of the benchmark.
        arm: the arm.
        parts: `checkpoint`, of its last phase, if it trains, and `regions`, if it retrieves.
        result: the finished benchmark.
        scores: its scores as tables.
    """
    name, values = setting.benchmark, scores.stats["scores"]
    checkpoint, regions = parts.get("checkpoint"), parts.get("regions")
    tags = {**_about(config, "score"), "benchmark": name, "arm": arm}
    if checkpoint is not None:
        tags["checkpoint"] = checkpoint.digest
    run.metrics({f"{arm}/{metric}": values[metric] for metric in COLUMNS if metric in values})
    with track(f"benchmark/{name}/{arm}", root=run.root, uri=run.uri, tags=tags) as child:
        child.note(
            f"Scores of **{escaped(arm)}** on {code(name)}: metrics {code(f'{name}/...')} as"
            " fractions in 0..1, by class in `class-scores.csv` (Artifacts)."
        )
        child.values({"arm": arm, "benchmark": name})
        child.scores(
            values,
            setting=setting,
            headline=list(COLUMNS),
            name=model_name(config),
            clip=checkpoint.payload() if checkpoint else None,
            regions=regions.payload() if regions else None,
        )
        by_class = read_parquet(scores.payload() / "class_scores.parquet")
        child.text(csv_text(by_class), "class-scores.csv")
        child.metrics({"seconds": _seconds(result)})
        child.manifest("1-benchmark", result)
        child.manifest("2-scores", scores, upload=True)
        child.dataset(name, result, context="evaluation")


@never_fails_the_run
def record_scores(
    run: TrackedRun,
    config: RunConfig,
    setting: BenchmarkConfig,
    scored: Mapping[str, Manifest],
) -> None:
    """Describe a benchmark whose arms are all scored.

    Args:
        run: of the benchmark.
        config: of the whole run.
        setting: of the benchmark.
        scored: scores by `<benchmark>/<arm>`; those of other benchmarks are ignored.
    """
    of_arm = {
        key.rpartition("/")[2]: manifest.stats["scores"]
        for key, manifest in scored.items()
        if key.rpartition("/")[0] == setting.benchmark
    }
    run.tags({**_about(config, "benchmark"), "benchmark": setting.benchmark})
    run.values(setting.model_dump(mode="json"))
    text = json.dumps(redacted(setting.model_dump(mode="json")), indent=1, ensure_ascii=False)
    run.text(text, "benchmark.json")
    run.note(notes.benchmark_note(run, setting, of_arm))


@never_fails_the_run
def record_report(
    run: TrackedRun,
    config: RunConfig,
    summary: Summary,
    truth: Manifest | None,
    sheet: Manifest | None,
    report: Manifest,
) -> None:
    """Log the run's report, summary and images, and the current catalog."""
    run.note(notes.pipeline_note(run, config, summary))
    run.file(report_file(report))
    run.text(markdown(summary), "summary.md")
    run.text(summary.model_dump_json(indent=1), "summary.json")
    headline = {"mining", *COLUMNS}
    run.metrics(
        {
            name: value
            for name, value in metrics(summary).items()
            if headline & {name.partition("/")[0], name.rpartition("/")[2]}
        }
    )
    run.file(run.root / "catalog.json", "stages/catalog")
    run.references("stages/catalog", [run.root / "catalog.duckdb"])
    if truth is not None:
        run.manifest("pair-truth", truth)
    if sheet is not None:
        run.file(sheet.payload() / "contact-sheet.png")
        run.manifest("contact-sheet", sheet)
    run.manifest("report", report)
