"""The descriptions of MLflow runs and models: what it is, what to look at first, where things are.

Markdown for MLflow's pages. Links are relative to the page, so they work at any address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ovseg.comparison.words import markdown_table, percent, thousands
from ovseg.config.presets import ARMS
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.files.escaping import code, escaped
from ovseg.models.packaged import pixels_alone
from ovseg.report.summary import COLUMNS, Summary, markdown
from ovseg.stages.manifest import Manifest
from tasks.tracking.mlflow_run import MlflowRun

PARTS = ("seen", "unseen", "all")
"""The parts of a benchmark's classes in learning curves."""


def link_to(run: MlflowRun, text: str | None = None, tab: str = "") -> str:
    """Return a link to a run's page, or to a tab of it."""
    return f"[{escaped(text or run.name)}]({run.page}{tab})"


def comparison(runs: Sequence[MlflowRun]) -> str:
    """Return the address of MLflow's page that compares runs."""
    ids = quote(json.dumps([run.run_id for run in runs]))
    experiment = quote(json.dumps([runs[0].experiment_id])) if runs else ""
    return f"#/compare-runs?runs={ids}&experiments={experiment}"


def _place(run: MlflowRun) -> str:
    return (
        f"Results: {code(str(run.root))}. Command: {code(run.inherited.get('command', 'ovseg'))}."
    )


# --------------------------------------------------------------------------------------
# Runs


def pipeline_note(run: MlflowRun, config: RunConfig, summary: Summary | None = None) -> str:
    """Describe the whole chain; without a summary, as it runs."""
    what = (
        "Captioned images → pairs of nouns and masks → CLIPs adapted on them → their scores on a"
        f" benchmark. Expected of preset `{config.preset}`: {config.expect}."
    )
    if summary is None:
        return "\n".join(["*Running, or stopped before its end.*", "", what, "", _place(run)])
    found = {child.name.partition("/")[0]: child for child in run.children}
    first = [
        f"[the models side by side]({comparison(child.children)}) on"
        f" {escaped(child.name.partition('/')[2])}"
        for child in run.children
        if child.name.startswith("benchmark/") and child.children
    ]
    if "finetune" in found:
        first += [
            link_to(found["finetune"], "learning curves", "/model-metrics"),
            f"[registered models](#/models/ovseg-{config.preset})",
        ]
    report = "`report.html`, " if summary.report is not None else ""
    files = link_to(run, "files", "/artifacts")
    first += [f"{files}: {report}`contact-sheet.png`, `summary.md`"]
    # MLflow folds a description after a few lines: links come first
    lines = [f"Look first at {'; '.join(first)}.", "", what, ""]
    lines += [markdown(summary).partition("\n\n")[2].replace("## ", "### ").strip()]
    lines += ["", "### Child runs", ""]
    lines += [f"- {link_to(child)}: {_WHAT.get(name, '')}" for name, child in found.items()]
    lines += ["", _place(run), "Running the command again computes nothing that is whole."]
    return "\n".join(lines) + "\n"


_WHAT = {
    "mine": "the pair table, step by step, and its checks",
    "finetune": "the training set (SQL), loss and learning curves, checkpoints",
    "benchmark": "scores of every model, also by class",
}


def mining_note(run: MlflowRun, mined: Mapping[str, Manifest], failed: Sequence[str]) -> str:
    """Describe mining: what each step found, kept and dropped most."""
    steps = {
        "images": ("images", "n"),
        "nouns": ("noun mentions", "mentions"),
        "proposals": ("mask proposals", "proposals"),
        "pairs": ("pairs", "pairs"),
    }
    rows = []
    for role, (name, key) in steps.items():
        stats = mined[role].stats
        dropped = sorted(stats["dropped"].items(), key=lambda item: (-item[1], item[0]))[:2]
        reasons = (
            ", ".join(f"{escaped(reason)} ({count:,})" for reason, count in dropped) or "nothing"
        )
        rows.append((name, thousands(stats[key]), thousands(stats["kept"]), reasons))
    checks = f"failed: {escaped(', '.join(failed))}" if failed else "all passed"
    return "\n".join(
        [
            "Captions to nouns, images to mask proposals, both to the pair table.",
            "",
            *markdown_table([("step", "found", "kept", "dropped most for"), *rows]),
            "",
            f"Checks of the table (`sql/tests`): {checks}. The table itself:"
            f" {code(str(mined['table'].folder))}; ask it with"
            f" {code(f'ovseg sql --root {run.root} top_nouns')}.",
            "",
            _place(run),
        ]
    )


def training_note(
    run: MlflowRun,
    config: RunConfig,
    curated: Manifest,
    curves: Mapping[str, Sequence[Manifest]],
) -> str:
    """Describe the adaptation of CLIP: the pairs, the models, and their final accuracy."""
    lasts = {arm: made[-1].stats["last"] for arm, made in curves.items() if made}
    rows = [
        (
            escaped(ARMS.get(arm, arm)),
            _phases(config, arm),
            *(percent(lasts.get(arm, {}).get(part)) for part in PARTS),
        )
        for arm in config.arms
        if config.arms[arm]
    ]
    headings = ("model", "phases", *(f"GT masks {part}, %" for part in PARTS))
    return "\n".join(
        [
            f"CLIPs adapted on **{training_set(config, curated)}**.",
            "",
            *markdown_table([headings, *rows]),
            "",
            "GT masks: ground-truth masks of the benchmark that CLIP names correctly after the"
            " last step, over the classes seen in mask annotations, the unseen ones, and all.",
            "",
            f"- [losses and learning curves of the models overlaid]({comparison(run.children)})",
            f"- {link_to(run, 'learning curves one by one', '/model-metrics')}",
            "- the training set as SQL: artifact folder `curation`",
            "",
            _place(run),
        ]
    )


def arm_note(
    run: MlflowRun, config: RunConfig, arm: str, curated: Manifest, model: str | None
) -> str:
    """Describe the training of one model."""
    served = f"Registered as `{model}`." if model else "Not registered."
    return (
        f"**{escaped(ARMS.get(arm, arm))}** (`{arm}`): {_phases(config, arm)}, on"
        f" {training_set(config, curated)}. Steps count over all phases.\n\n{served}"
        " Phases and their manifests: artifact folder `stages`.\n\n" + _place(run)
    )


def benchmark_note(
    run: MlflowRun, setting: BenchmarkConfig, scores: Mapping[str, Mapping[str, float]]
) -> str:
    """Describe a benchmark: the models' scores side by side."""
    rows = [
        (escaped(ARMS.get(arm, arm)), *(percent(values.get(metric)) for metric in COLUMNS))
        for arm, values in scores.items()
    ]
    headings = ("model", *(heading.replace("\n", " ") for heading in COLUMNS.values()))
    return "\n".join(
        [
            f"Benchmark {code(setting.benchmark)}, in %: same proposals, templates and thresholds"
            " for all models, only CLIP's weights differ.",
            "",
            *markdown_table([headings, *rows]),
            "",
            "mIoU is over the classes in ground truth or prediction (`miou_union`, the headline);"
            " mIoU (GT) over those in ground truth. GT masks: ground-truth masks named correctly.",
            "",
            f"- [all metrics of the models side by side]({comparison(run.children)})",
            "- by class: `class-scores.csv` in each child run",
            "",
            _place(run),
        ]
    )


# --------------------------------------------------------------------------------------
# Models


def training_set(config: RunConfig, curated: Manifest) -> str:
    """Describe the curated pairs."""
    stats = curated.stats
    return (
        f"{stats['pairs']:,} pairs of {stats['nouns']:,} nouns of"
        f" {escaped(config.data.dataset)} (query {code(curated.config['query'])},"
        f" digest `{curated.digest}`)"
    )


def _phases(config: RunConfig, arm: str) -> str:
    return ", then ".join(phase.trains.replace("_", " ") for phase in config.arms[arm])


def _served(setting: BenchmarkConfig) -> str:
    """Describe how a model segments, in a line or two of a list."""
    weights = setting.maskformer
    shown = ", weights that it holds" if Path(weights).exists() else f" {code(weights)}"
    lines = [f"- mask proposals: {setting.proposals}{'' if pixels_alone(setting) else shown}"]
    if setting.segmentor == "pixels":
        lines = ["- no mask proposals: each pixel is named by its own embedding"]
    if setting.retrieval_weight:
        lines.append(
            f"- the nearest of the mined regions it holds vote, weight {setting.retrieval_weight:g}"
        )
    return "\n".join([*lines, "- all settings: `settings.json` among its artifacts"])


def model_note(run: MlflowRun, config: RunConfig, arm: str, curated: Manifest) -> str:
    """Describe a model version before it is scored."""
    name = f"ovseg-{config.preset}"
    phases = config.phases[arm]
    return "\n".join(
        [
            f"Open-vocabulary segmentor with an adapted CLIP: {escaped(ARMS.get(arm, arm))}, seed"
            f" {config.seed}.",
            "",
            f"- adapted: {_phases(config, arm)}, starting from {code(phases[0].clip)}",
            f"- on: {training_set(config, curated)}",
            _served(config.serving),
            f"- trained in run {link_to(run)}",
            "",
            "```",
            f'model = mlflow.pyfunc.load_model("models:/{name}@{arm}")',
            'model.predict(pandas.DataFrame({"image": [in_base64], "classes": ["moon, tree"]}))',
            "```",
            "",
            f"Serve: `mlflow models serve -m models:/{name}@{arm} --env-manager local`",
        ]
    )


def about_model(config: RunConfig) -> str:
    """Describe a registered model."""
    return (
        f"Segmentors of preset `{config.preset}`: a MaskFormer proposes masks, an adapted CLIP"
        " names them with the classes that come with each image. One version per content:"
        " weights, settings and what these need."
        "\n\nThe alias of a model's kind (`finetuned`, `prompts`, `both`) points at its latest"
        " version; a reviewer sets `champion`. Each version's description has its scores."
    )
