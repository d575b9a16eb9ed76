"""The report at the end of a run: where it lies, and that the run's tracking holds it."""

from ovseg.files.digests import file_sha256
from ovseg.report.sections import NO_BENCHMARK


def test_a_run_ends_with_its_report(small_run):
    root, summary = small_run
    html = summary.report.read_text(encoding="utf-8")
    assert summary.report.is_relative_to(root) and summary.report.name == "report.html"
    assert "A miniature." in html and NO_BENCHMARK not in html
    for label in ("original CLIP", "fine-tuned", "mask prompts"):
        assert label in html


def test_the_report_is_an_artifact_of_the_whole_run(small_run):
    from mlflow.tracking import MlflowClient

    root, summary = small_run
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "ovseg"]
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    first = min(parents, key=lambda run: run.info.start_time)
    assert "report.html" in {item.path for item in client.list_artifacts(first.info.run_id)}
    logged = root / "mlartifacts" / first.info.run_id / "artifacts" / "report.html"
    assert file_sha256(logged) == file_sha256(summary.report)
