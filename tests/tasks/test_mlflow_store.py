"""The MLflow database of a folder of results: killed, raced for, moved and copied."""

import shutil
import subprocess
import sys

import pytest
import sqlalchemy
from mlflow.tracking import MlflowClient

from tasks.tracking.mlflow_run import EXPERIMENT, alias_name, mlflow_name, tracking_uri
from tasks.tracking.tracked_run import track


def runs_of(root):
    client = MlflowClient(tracking_uri(root, None))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id])
    return client, {run.info.run_name: run for run in found}


def unfinished(database):
    """A database as a process leaves it that is killed before the first migration."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database.parent.mkdir()
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()


@pytest.mark.parametrize("left", ["tables without migrations", "an empty file"])
def test_a_database_that_was_never_finished_is_made_anew(root, left, caplog):
    if left == "an empty file":
        root.mkdir()
        (root / "mlflow.db").touch()
    else:
        unfinished(root / "mlflow.db")
    with track("run", root=root) as run:
        run.metrics({"a": 1})
    assert run.problems == []
    assert runs_of(root)[1]["run"].data.metrics == {"a": 1.0}
    (kept,) = root.glob("mlflow.db.unfinished-*")
    assert f"renamed to {kept.name}" in caplog.text


def test_a_database_with_runs_is_never_set_aside(root):
    with track("before", root=root):
        pass
    database = root / "mlflow.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("update alembic_version set version_num = 'older'"))
    engine.dispose()
    content = database.read_bytes()
    from tasks.tracking.mlflow_store import prepare_store

    prepare_store(root)
    assert database.read_bytes() == content and not list(root.glob("*.unfinished-*"))


def test_a_database_has_its_name_when_it_is_whole(root, monkeypatch):
    """A process that dies while MLflow makes the tables leaves no database."""
    from mlflow.store.db import utils

    def die(engine):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", die)
        with pytest.raises(KeyboardInterrupt), track("killed", root=root):
            pass
    assert not list(root.glob("mlflow.db*"))
    with track("next", root=root):
        pass
    assert set(runs_of(root)[1]) == {"next"}


def test_two_first_runs_at_once_share_one_database(root):
    program = (
        "import sys; from pathlib import Path; from tasks.tracking.tracked_run import track\n"
        "with track(sys.argv[2], root=Path(sys.argv[1])) as run: run.metrics({'a': 1})\n"
        "sys.exit(len(run.problems))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program, str(root), name])
        for name in ("one", "other")
    ]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    runs = runs_of(root)[1]
    assert set(runs) == {"one", "other"}
    assert {run.data.metrics["a"] for run in runs.values()} == {1.0}
    assert not list(root.glob("mlflow.db.*"))


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_results_at_a_new_place_keep_their_artifacts_there(root, tmp_path, how):
    with track("old", root=root) as run:
        run.text("kept", "kept.txt")
    place = tmp_path / "elsewhere" / "results with blanks"
    place.parent.mkdir()
    if how == "moved":
        shutil.move(root, place)
    else:
        shutil.copytree(root, place)
    with track("new", root=place) as run:
        run.text("written", "new.txt")
    assert run.problems == []
    client, runs = runs_of(place)
    for name, text in (("old", "kept.txt"), ("new", "new.txt")):
        (item,) = client.list_artifacts(runs[name].info.run_id)
        assert item.path == text
        assert runs[name].info.artifact_uri.startswith(place.resolve().as_uri())
    if how == "moved":
        assert not root.exists(), "nothing is written to the old place"
    else:
        assert [path.name for path in (root / "mlartifacts").rglob("*.txt")] == ["kept.txt"]
        (kept,) = runs_of(root)[1].values()
        assert kept.info.artifact_uri.startswith(root.resolve().as_uri())


ODD = ("a,b", "100%", "ä (2)", "..", "a//b", "/a", "x" * 300, "#!", "v1", "latest", "")


def test_odd_names_are_logged_under_names_that_mlflow_takes(root):
    odd = [f"{name}/miou_union" for name in ODD]
    with track("run", root=root) as run:
        run.metrics(dict.fromkeys(odd, 0.5))
        run.values(dict.fromkeys(odd, "x"))
        run.tags(dict.fromkeys(odd, "x"))
        run.text("x", "a,b/c.txt")
        run.metrics({"after": 1.0})
    assert run.problems == []
    (found,) = runs_of(root)[1].values()
    assert found.data.metrics == {**{mlflow_name(name): 0.5 for name in odd}, "after": 1.0}
    assert len({mlflow_name(name) for name in ODD}) == len(ODD)
    assert mlflow_name("ade20k-150/miou_union") == "ade20k-150/miou_union"
    assert mlflow_name("mining.pairing.min_margin") == "mining.pairing.min_margin"
    from mlflow.utils.validation import _validate_model_alias_name

    for name in ODD:
        _validate_model_alias_name(alias_name(name))
    assert alias_name("both") == "both"


def test_what_the_server_refuses_is_left_out_and_nothing_else(root, caplog):
    with track("run", root=root) as run:
        run.values({"a": 1})
        run.values({"a": 2})  # MLflow keeps the first value of a param
        run.metrics({"after": 1.0})
        with track("child", root=root) as child:
            child.metrics({"after": 1.0})
    (problem,) = run.problems
    assert "not logged, the run continues" in caplog.text
    runs = runs_of(root)[1]
    assert {name: run.data.metrics for name, run in runs.items()} == {
        "run": {"after": 1.0},
        "child": {"after": 1.0},
    }
    assert problem in (root / "tracking-problems.txt").read_text()


def test_the_problem_is_told_with_its_cause(root, monkeypatch):
    with track("run", root=root) as run:

        def refuse(*args, **kwargs):
            try:
                raise TimeoutError("database is locked\nby another")
            except TimeoutError as cause:
                raise RuntimeError("cannot write") from cause

        monkeypatch.setattr(run.client, "log_batch", refuse)
        run.metrics({"a": 1})
    text = (root / "tracking-problems.txt").read_text()
    assert "RuntimeError: cannot write" in text
    assert "caused by TimeoutError: database is locked\nby another" in text


def test_a_served_model_installs_the_versions_it_was_made_with():
    import importlib.metadata

    from tasks.tracking.model_registry import pip_requirements

    wanted = pip_requirements()
    assert f"ovseg=={importlib.metadata.version('ovseg')}" == wanted[0]
    assert f"numpy=={importlib.metadata.version('numpy')}" in wanted
    assert all(each.count("==") == 1 and "+" not in each for each in wanted)
