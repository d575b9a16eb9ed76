"""One MLflow run: opened inside its parent, described, found again from outside, closed.

Settings of MLflow's client are here, as every module that talks to MLflow imports this one.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from urllib.parse import urlsplit

from ovseg.files.digests import digest_json
from ovseg.files.publish import publish_text
from ovseg.files.urls import holds_secret, without_secrets
from ovseg.stages import interrupts
from tasks.process import TAG, is_dead
from tasks.tracking.mlflow_store import artifacts_uri, database_uri, prepare_store
from tasks.tracking.provenance import flow_tags, origin_tags

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
logger = logging.getLogger("ovseg.tracking")
EXPERIMENT = "ovseg"
ABOUT = """Pairs of nouns and masks mined from captioned images, the CLIPs adapted on them, their \
scores.

Each run of the chain is one row; its children are `mine`, `finetune` (a child for each model \
trained) and `benchmark/<name>` (a child for each model scored). Open a row and read its \
description first.

- scores side by side: search `tags.stage = "score"`, tick the runs, Compare
- training side by side: search `tags.stage = "train"`, then the chart view
"""
"""Description of the experiment."""
P = ParamSpec("P")


class Problems(list[str]):
    """Reasons why something was not logged; shared by all runs of one flow run."""

    gave_up = False
    """Whether the server itself failed; nothing more is logged then."""


def never_fails_the_run(method: Callable[P, None]) -> Callable[P, None]:
    """Log the first tracking error and carry on without tracking."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run: Any = args[0]
        opens = method.__name__ == "_open"
        if run.problems.gave_up or (run.run_id is None and not opens):
            return
        try:
            method(*args, **kwargs)
        except Exception as error:
            run.report(error, what=method.__name__.strip("_"))

    return wrapper


def tracking_uri(root: Path, uri: str | None) -> str:
    """Return the MLflow server of a run: the given one, or SQLite in the folder of results."""
    return uri or database_uri(root)


def mlflow_name(name: str) -> str:
    """Return a name that MLflow accepts for metrics, params, tags and folders of artifacts.

    What MLflow rejects (commas, brackets, empty parts of a path, ...) becomes `_`, and that part of
    the name ends in six digits of its digest, so that names stay distinct. Valid names are kept.
    """
    parts = []
    for part in name.split("/"):
        kept = re.sub(r"[^\w.\- :]", "_", part)[:120]
        kept = "_" if kept.strip(". ") == "" else kept
        parts.append(kept if kept == part else f"{kept}-{digest_json(part)[:6]}")
    return "/".join(parts)


def alias_name(name: str) -> str:
    """Return a name that MLflow accepts as the alias of a model version."""
    reserved = name in ("", "latest") or re.fullmatch(r"[vV]\d+", name)
    kept = re.sub(r"[^\w\-]", "_", name)[:120]
    return kept if kept == name and not reserved else f"{kept}-{digest_json(name)[:6]}"


def _about_the_data(error: Exception) -> bool:
    """Whether the server rejected only this data, and will accept the next."""
    code = getattr(error, "error_code", None)
    return code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS")


def _with_causes(error: BaseException, *, messages: bool) -> str:
    """Return an error and its causes: `Type: message`, a line or more each.

    Args:
        error: the error, whose own message is always included.
        messages: include those of the causes. They may spell parts of an address differently, so
            they are left out if it holds a secret.
    """
    lines, seen = [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        told = messages or cause is error
        lines.append(
            f"{type(cause).__name__}: {str(cause).strip()}" if told else type(cause).__name__
        )
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n  caused by ".join(lines)


class MlflowRun:
    """An MLflow run with its description; every method is safe to call when tracking is down.

    Attributes:
        run_id: of MLflow; None if the run could not be opened.
        experiment_id: of MLflow.
        children: the runs opened inside this one, in order.
        problems: what was not logged and why, shared by all runs of one flow run.
    """

    client: MlflowClient

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        uri: str | None,
        parent: MlflowRun | None,
        tags: Mapping[str, str],
    ):
        self.name, self.root, self.parent = name, root, parent
        self.run_id: str | None = None
        self.experiment_id = ""
        self.children: list[MlflowRun] = []
        self.problems: Problems = parent.problems if parent else Problems()
        self.local = uri in (None, database_uri(root))
        self.uri = tracking_uri(root, uri)
        self.inherited: dict[str, str] = {}
        if parent is not None:
            parent.children.append(self)
        self._open(tags)

    def report(self, error: Exception, *, what: str) -> None:
        """Record what was not logged and why.

        If the server itself failed, nothing more is logged, neither here nor in other runs.
        """
        problem = without_secrets(
            f"MLflow run {self.name!r} at {self.uri}: {what}: "
            + _with_causes(error, messages=not holds_secret(self.uri))
        )
        self.problems.append(problem)
        first = problem.splitlines()[0]
        if _about_the_data(error):
            logger.warning("not logged, the run continues: %s", first)
        else:
            self.problems.gave_up = True
            logger.warning("tracking failed, the run continues without it: %s", first)

    @property
    def page(self) -> str:
        """The run's page on whatever server shows the store: `#/experiments/1/runs/<id>`."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def url(self) -> str | None:
        """The run's page on its MLflow server, without credentials; None if there is no server."""
        parts = urlsplit(self.uri)
        if self.run_id is None or parts.scheme not in ("http", "https"):
            return None
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/{self.page}"

    @property
    def how_to_open(self) -> str:
        """One line that says how to open the run's page."""
        if self.run_id is None:
            return "not tracked: see tracking-problems.txt in the results"
        if self.url is not None:
            return f"open {self.url}"
        return (
            f"run `mlflow ui --backend-store-uri {without_secrets(self.uri)}`,"
            f" then open http://127.0.0.1:5000/{self.page}"
        )

    @never_fails_the_run
    def _open(self, tags: Mapping[str, str]) -> None:
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        if self.parent is None and self.local:
            prepare_store(self.root)
        self.client = self.parent.client if self.parent else MlflowClient(tracking_uri=self.uri)
        self.experiment_id = self._experiment()
        if self.parent is None:
            self._close_dead()
            self.inherited = origin_tags()
        else:
            self.inherited = self.parent.inherited
            if self.parent.run_id is not None:
                tags = {"mlflow.parentRunId": str(self.parent.run_id), **tags}
        all_tags = {**self.inherited, **flow_tags(), **tags}
        run = self.client.create_run(
            self.experiment_id,
            run_name=self.name,
            tags={mlflow_name(key): str(value) for key, value in all_tags.items()},
        )
        self.run_id = run.info.run_id
        interrupts.add_closer(self._kill)

    def _close_dead(self) -> None:
        """Set runs that are shown as running, but whose process is provably dead, to KILLED."""
        running = self.client.search_runs(
            [self.experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=500
        )
        for run in running:
            if is_dead(run.data.tags.get(TAG, "")):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _experiment(self) -> str:
        """Return the ID of the experiment; create and describe it if missing."""
        if self.parent is not None:
            return self.parent.experiment_id
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return str(experiment.experiment_id)
        location = artifacts_uri(self.root) if self.uri.startswith("sqlite:") else None
        made = str(self.client.create_experiment(EXPERIMENT, artifact_location=location))
        # for this kind MLflow shows training pages, not those for language models' traces
        self.client.set_experiment_tag(made, "mlflow.experimentKind", "custom_model_development")
        self.client.set_experiment_tag(made, "mlflow.note.content", ABOUT)
        return made

    @never_fails_the_run
    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        entities = [RunTag(mlflow_name(key), without_secrets(value)) for key, value in tags.items()]
        self.client.log_batch(self.run_id, tags=entities)

    @never_fails_the_run
    def inherit(self, tags: Mapping[str, str]) -> None:
        """Set tags here and on every child opened from now on."""
        self.inherited = {**self.inherited, **tags}
        self.tags(tags)

    def note(self, markdown: str) -> None:
        """Set the description that the run's page shows."""
        self.tags({"mlflow.note.content": markdown})

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, even if something was not logged."""
        interrupts.remove_closer(self._kill)
        if self.run_id is None:
            return
        try:
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            if not self.problems.gave_up:
                self.report(error, what="close")

    def _kill(self) -> None:
        self.client.set_terminated(self.run_id, "KILLED")


def write_problems(problems: Sequence[str], path: Path) -> None:
    """Write why tracking failed, or remove an earlier run's file; never fails the run."""
    try:
        if problems:
            publish_text("".join(f"{problem}\n" for problem in problems), path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be updated: %s", path, error)
