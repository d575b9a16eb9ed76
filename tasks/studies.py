"""The end of a run over several seeds: comparison of its models, printing, MLflow record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ovseg.comparison.findings import metrics, read_findings
from ovseg.comparison.seed_runs import study_config, study_inputs
from ovseg.comparison.stage import STUDY
from ovseg.comparison.study_page import headline, show_study
from ovseg.config.run import RunConfig
from ovseg.files.escaping import code
from ovseg.stages.manifest import Manifest
from tasks.progress import console
from tasks.run import run
from tasks.tracking.mlflow_run import never_fails_the_run
from tasks.tracking.tracked_run import TrackedRun

__all__ = ["announce", "compare", "describe", "record_study", "show_studies"]


def announce(config: RunConfig) -> None:
    """Print which seed starts."""
    console.print(f"{config.preset} seed {config.seed}: {config.root}", style="bold")


def describe(run: TrackedRun, configs: Sequence[RunConfig]) -> None:
    """Tag a run over seeds with what it runs."""
    first = configs[0]
    seeds = ", ".join(str(config.seed) for config in configs)
    run.tags({"preset": first.preset, "seeds": seeds, "stage": "seeds"})
    run.note(
        f"Preset `{first.preset}` over seeds {seeds}: each is a child run, the comparison of their"
        " models stands here when all are done."
    )


def compare(configs: Sequence[RunConfig], root: Path) -> dict[str, Manifest]:
    """Compare the arms of finished runs over their seeds, inside a flow.

    Args:
        configs: the runs, one per seed.
        root: folder of the studies.

    Returns:
        The study of each benchmark; empty if the preset has no benchmark.
    """
    roots = {config.seed: config.root for config in configs}
    studies: dict[str, Manifest] = {}
    for setting in configs[0].scored:
        name = setting.benchmark
        inputs = study_inputs(roots, name, list(configs[0].arms))
        label = f"compare over seeds: {name}"
        studies[name] = run(STUDY, study_config(name, inputs), inputs, root, label=label)
    return studies


@never_fails_the_run
def record_study(run: TrackedRun, study: Manifest) -> None:
    """Log a study's means and bounds, its table and its plots."""
    name, findings = study.config["benchmark"], read_findings(study)
    run.note(
        f"The models on benchmark {code(name)} over {len(findings.seeds)} seeds, each"
        f" a child run. All tables and plots: Artifacts, {code(f'study/{name}')}."
        f"\n\n{headline(findings)}"
    )
    run.metrics(metrics(findings))
    run.file(study.payload(), f"study/{name}")
    run.manifest(f"study/{name}", study)


def show_studies(studies: dict[str, Manifest]) -> None:
    """Print the findings of a run over seeds."""
    for study in studies.values():
        show_study(study)
    if not studies:
        console.print("No benchmark is configured, so there is nothing to compare.")
