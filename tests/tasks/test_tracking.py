"""Tracking in a real MLflow on SQLite: what is recorded, and that its failures fail no run."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from prefect.exceptions import TerminationSignal
from recorded import artifacts, client_of, problems, runs_by_name

from ovseg.config.base import Config
from ovseg.config.presets import load_preset
from ovseg.files.digests import file_sha256
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.stage import Output, Stage
from tasks.tracking.mlflow_run import EXPERIMENT
from tasks.tracking.records import record_benchmark
from tasks.tracking.tracked_run import track


class Payload(Stage[Config]):
    """A folder with one file."""

    name = "payloads"
    suffix = ""

    def plan(self, config, inputs):
        return ShardPlan.single("one")

    def write(self, config, inputs, target, *, shard, progress):
        target.mkdir()
        (target / "weights.bin").write_bytes(b"weights")
        return Output(rows=1, stats={"n": 1})


def test_runs_nest_and_join(root):
    with track("parent", root=root) as parent:
        parent.tags({"preset": "storybook"})
        with track("child", root=root) as child:
            with track("grandchild", root=root):
                pass
            with track("joined", root=root, join=True) as joined:
                assert joined is child
        with track("sibling", root=root):
            pass
    with track("alone", root=root, join=True):  # nothing to join
        pass
    runs = runs_by_name(root)
    assert set(runs) == {"parent", "child", "grandchild", "sibling", "alone"}
    above = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    ids = {name: run.info.run_id for name, run in runs.items()}
    assert above == {
        "parent": None,
        "child": ids["parent"],
        "grandchild": ids["child"],
        "sibling": ids["parent"],
        "alone": None,
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert runs["parent"].data.tags["preset"] == "storybook"
    assert runs["parent"].data.tags["git_commit"]
    assert problems(root) == []


def test_a_run_says_where_it_comes_from_and_its_children_too(root, monkeypatch):
    command = ["/usr/bin/ovseg", "run", "--tracking", "http://me:secret@host/", "--root", "a b"]
    monkeypatch.setattr("sys.argv", command)
    with track("parent", root=root, tags={"stage": "pipeline"}) as parent:
        parent.inherit({"preset": "toy"})
        with track("child", root=root), track("grandchild", root=root, tags={"arm": "both"}):
            pass
        parent.note("# what it is")
    runs = {name: run.data.tags for name, run in runs_by_name(root).items()}
    for tags in runs.values():
        assert tags["command"] == "ovseg run --tracking http://host/ --root 'a b'"
        assert tags["mlflow.source.name"] == "ovseg run" and tags["mlflow.user"]
        assert tags["git_commit"].startswith(tags["mlflow.source.git.commit"])
        assert tags["preset"] == "toy"
    assert runs["grandchild"]["arm"] == "both" and "stage" not in runs["grandchild"]
    assert runs["parent"]["mlflow.note.content"] == "# what it is"
    experiment = client_of(root).get_experiment_by_name(EXPERIMENT)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "Open a row" in experiment.tags["mlflow.note.content"]
    assert problems(root) == []


def test_a_run_is_found_from_outside(root):
    with track("run", root=root) as run:
        assert run.url is None
        assert run.how_to_open == (
            f"run `mlflow ui --backend-store-uri sqlite:///{root.resolve() / 'mlflow.db'}`,"
            f" then open http://127.0.0.1:5000/#/experiments/{run.experiment_id}/runs/{run.run_id}"
        )
        run.uri = "https://me:secret@mlflow.example:5000/prefix/"
        page = f"https://mlflow.example:5000/prefix/#/experiments/1/runs/{run.run_id}"
        assert run.url == page and run.how_to_open == f"open {page}"
    with track("lost", root=root, uri="http://me:secret@127.0.0.1:9/") as lost:
        assert lost.url is None and "tracking-problems.txt" in lost.how_to_open
    (problem,) = problems(root)
    assert "secret" not in problem


def test_params_of_some_fields_and_passwords_of_none(root):
    secret = "http://me:secret@host:5000"
    config = load_preset("storybook").changed("tracking", uri=secret)  # settings refuse it
    with track("parent", root=root) as parent:
        parent.params(config, ["tracking", "data"])
        with track("child", root=root) as child:
            child.params(config, ["models"])
            child.values({"arm": "both", "1": {"trains": "joint"}})
    runs = runs_by_name(root)
    params = runs["parent"].data.params
    assert params["tracking.uri"] == "http://host:5000"
    assert {name.partition(".")[0] for name in params} == {"tracking", "data"}
    assert runs["child"].data.params["1.trains"] == "joint"
    assert runs["child"].data.params["models.clip"] == "storybook"
    # the whole configuration once, where it all begins
    assert artifacts(root, runs["child"].info.run_id) == set()
    (name,) = artifacts(root, runs["parent"].info.run_id)
    whole = client_of(root).download_artifacts(runs["parent"].info.run_id, name)
    assert name == "config.json" and "secret" not in Path(whole).read_text()
    assert problems(root) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (TerminationSignal(signal=15), "KILLED"),
    ],
)
def test_a_run_that_fails_is_recorded_as_such(root, error, status):
    with pytest.raises(type(error)), track("outer", root=root), track("inner", root=root):
        raise error
    assert {run.info.status for run in runs_by_name(root).values()} == {status}
    with track("next", root=root):
        pass
    assert "mlflow.parentRunId" not in runs_by_name(root)["next"].data.tags


def test_params_are_flat_and_all_there(root):
    config = load_preset("storybook", {"mining.pairing.template": "x" * 9000})
    with track("run", root=root) as run:
        run.params(config)
    logged = runs_by_name(root)["run"]
    params = logged.data.params
    assert len(params) > 100
    assert params["models.clip"] == "storybook"
    assert params["arms.both.1.trains"] == "mask_prompts"
    assert params["benchmarks.0.ensemble_weight"] == "0.7"
    assert params["data.limit"] == "None"
    assert len(params["mining.pairing.template"]) == 5000
    whole = client_of(root).download_artifacts(logged.info.run_id, "config.json")
    assert type(config).model_validate_json(Path(whole).read_text()) == config
    assert problems(root) == []


def test_metrics_that_are_no_numbers_are_left_out(root):
    values = {"a": 1, "b": float("nan"), "c": float("inf"), "d": None, "e/f": 0.5}
    rows = [{"step": step, "loss": 1.0 / step} for step in range(1, 1502)]
    rows[3]["loss"] = float("nan")
    with track("run", root=root) as run:
        run.metrics(values)
        run.series(rows, prefix="both", keys=("loss",))
    logged = runs_by_name(root)["run"]
    assert logged.data.metrics == {"a": 1.0, "e/f": 0.5, "both/loss": pytest.approx(1 / 1501)}
    history = client_of(root).get_metric_history(logged.info.run_id, "both/loss")
    assert [point.step for point in history] == [step for step in range(1, 1502) if step != 4]
    assert problems(root) == []


def test_a_stage_is_uploaded_or_referenced_and_named_as_data(root):
    manifest = run_stage(Payload(), Config(), {}, root)
    with track("run", root=root) as run:
        run.manifest("kept", manifest)
        run.manifest("sent", manifest, upload=True)
        run.text("hello", "notes/hello.txt")
        run.dataset("payload", manifest, context="training")
    logged = runs_by_name(root)["run"]
    names = artifacts(root, logged.info.run_id)
    assert "notes/hello.txt" in names
    assert {name for name in names if name.startswith("stages/kept")} == {
        f"stages/kept/{name}" for name in ("manifest.json", "run.json", "references.json")
    }
    assert "stages/sent/shard-00000/weights.bin" in names
    listed = client_of(root).download_artifacts(
        logged.info.run_id, "stages/kept/references.json", str(root)
    )
    files = json.loads(Path(listed).read_text())["files"]
    record, weights = sorted(files, key=lambda item: -item["bytes"])
    payload = manifest.payload() / "weights.bin"
    assert weights == {
        "path": payload.relative_to(root).as_posix(),
        "sha256": file_sha256(payload),
        "bytes": 7,
    }
    assert record["path"].endswith("shard-00000.json")
    (data,) = logged.inputs.dataset_inputs
    assert data.dataset.digest == manifest.content_digest[:36]
    assert [tag.value for tag in data.tags] == ["training"]
    assert problems(root) == []


def test_a_failure_in_the_middle_is_reported_once_and_the_run_goes_on(root, monkeypatch, caplog):
    done = []
    with track("parent", root=root) as parent:
        with track("child", root=root) as child:
            child.metrics({"before": 1})

            def refuse(*args, **kwargs):
                raise ConnectionError("the server went away\nat length")

            monkeypatch.setattr(child.client, "log_batch", refuse)
            child.metrics({"after": 1})
            child.params(Config())
            child.text("lost", "lost.txt")
            done.append("child")
        with track("later", root=root) as later:
            assert later.run_id is None
            later.metrics({"lost": 1})
            done.append("later")
        parent.tags({"lost": "yes"})
        done.append("parent")
    assert done == ["child", "later", "parent"]
    (problem,) = problems(root)
    assert "'child'" in problem and "ConnectionError: the server went away" in problem
    assert "at length" in problem, "the file keeps the whole of it"
    assert "the run continues without" in caplog.text and "at length" not in caplog.text
    runs = runs_by_name(root)
    assert set(runs) == {"parent", "child"}
    assert runs["child"].data.metrics == {"before": 1.0}
    with track("again", root=root) as again:  # the next run begins anew
        again.metrics({"there": 1})
    assert runs_by_name(root)["again"].data.metrics == {"there": 1.0}
    assert problems(root) == []


def test_an_upload_that_fails_is_reported_once(root, monkeypatch):
    manifest = run_stage(Payload(), Config(), {}, root)
    with track("run", root=root) as run:

        def refuse(*args, **kwargs):
            raise OSError("no space left on device")

        monkeypatch.setattr(run.client, "log_artifacts", refuse)
        run.manifest("sent", manifest, upload=True)
    assert len(problems(root)) == 1


def test_a_server_that_cannot_be_opened_fails_nothing(root):
    with track("run", root=root, uri="nonsense://server") as run:
        run.metrics({"a": 1})
    (problem,) = problems(root)
    assert "nonsense://server" in problem


def test_a_torn_stage_is_reported_and_fails_nothing(root):
    config = load_preset("storybook")
    manifest = run_stage(Payload(), Config(), {}, root)
    scores = manifest.model_copy(update={"stats": {"scores": {"miou_union": 0.5}}})
    (manifest.folder / "run.json").write_text("{torn")
    table = pa.table({"class": ["cat"], "iou": [0.5]})
    write_parquet(table, scores.payload() / "class_scores.parquet")
    done = []
    with track("run", root=root) as run:
        parts = {"checkpoint": None, "regions": None}
        record_benchmark(run, config, config.scored[0], "original", parts, manifest, scores)
        done.append("benchmark")
    assert done == ["benchmark"]
    (problem,) = problems(root)
    assert "'run'" in problem and "JSONDecodeError" in problem
    runs = runs_by_name(root)
    assert runs["run"].info.status == "FINISHED" and len(runs) == 2


def test_problems_that_cannot_be_written_fail_nothing(root, caplog):
    (root / "tracking-problems.txt").mkdir(parents=True)
    with track("run", root=root):
        pass
    assert "tracking-problems.txt cannot be updated" in caplog.text
    assert runs_by_name(root)["run"].info.status == "FINISHED"
