"""One MLflow run: opened inside its parent, described, found again from outside, closed.

Settings of MLflow's client stand here, as every module that talks to MLflow imports this one.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from tasks.provenance import flow_tags, origin_tags, without_password

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

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


def reported(method: Callable[P, None]) -> Callable[P, None]:
    """Report a failure of tracking once and go on without; the run must not fail of it."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        run: Any = args[0]
        if run.problems:
            return
        try:
            method(*args, **kwargs)
        except Exception as error:
            run.give_up(error)

    return wrapper


def tracking_uri(root: Path, uri: str | None) -> str:
    """The MLflow server of a run: the given one, or SQLite in the folder of results."""
    return uri or f"sqlite:///{(root / 'mlflow.db').resolve()}"


class MlflowRun:
    """An MLflow run that says what it is; every method is safe to call when tracking is down.

    Attributes:
        run_id: of MLflow; None where the run could not be opened.
        experiment_id: of MLflow.
        children: the runs opened inside this one, in order.
        problems: why tracking failed, shared by all runs of one flow run; empty where it did not.
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
        self.problems: list[str] = parent.problems if parent else []
        self.uri = tracking_uri(root, uri)
        self.inherited: dict[str, str] = {}
        if parent is not None:
            parent.children.append(self)
        self._open(tags)

    def give_up(self, error: Exception) -> None:
        """Note why tracking failed; nothing more is logged, neither here nor in other runs."""
        lines = str(error).strip().splitlines() or [""]
        problem = without_password(
            f"MLflow run {self.name!r} at {self.uri}: {type(error).__name__}: {lines[0]}"
        )
        logger.warning("tracking failed, the run goes on without: %s", problem)
        self.problems.append(problem)

    @property
    def page(self) -> str:
        """The run's page on whatever server shows the store: `#/experiments/1/runs/<id>`."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def url(self) -> str | None:
        """The run's page on its MLflow server, without credentials; None where there is none."""
        parts = urlsplit(self.uri)
        if self.run_id is None or parts.scheme not in ("http", "https"):
            return None
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/{self.page}"

    @property
    def how_to_open(self) -> str:
        """One line that says how to get to the run's page."""
        if self.run_id is None:
            return "not tracked: see tracking-problems.txt in the results"
        if self.url is not None:
            return f"open {self.url}"
        return (
            f"run `mlflow ui --backend-store-uri {without_password(self.uri)}`,"
            f" then open http://127.0.0.1:5000/{self.page}"
        )

    @reported
    def _open(self, tags: Mapping[str, str]) -> None:
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self.root.mkdir(parents=True, exist_ok=True)
        self.client = self.parent.client if self.parent else MlflowClient(tracking_uri=self.uri)
        self.experiment_id = self._experiment()
        if self.parent is None:
            self.inherited = origin_tags()
        else:
            self.inherited = self.parent.inherited
            tags = {"mlflow.parentRunId": str(self.parent.run_id), **tags}
        run = self.client.create_run(
            self.experiment_id,
            run_name=self.name,
            tags={**self.inherited, **flow_tags(), **tags},
        )
        self.run_id = run.info.run_id

    def _experiment(self) -> str:
        """The id of the experiment, made and described where it is not there yet."""
        if self.parent is not None:
            return self.parent.experiment_id
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return str(experiment.experiment_id)
        local = self.uri.startswith("sqlite:")
        location = (self.root / "mlartifacts").resolve().as_uri() if local else None
        made = str(self.client.create_experiment(EXPERIMENT, artifact_location=location))
        # of this kind MLflow shows the pages for training, not those for language models' traces
        self.client.set_experiment_tag(made, "mlflow.experimentKind", "custom_model_development")
        self.client.set_experiment_tag(made, "mlflow.note.content", ABOUT)
        return made

    @reported
    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        from mlflow.entities import RunTag

        entities = [RunTag(key, value) for key, value in tags.items()]
        self.client.log_batch(self.run_id, tags=entities)

    @reported
    def inherit(self, tags: Mapping[str, str]) -> None:
        """Set tags here and on every child opened from now on."""
        self.inherited = {**self.inherited, **tags}
        self.tags(tags)

    def note(self, markdown: str) -> None:
        """Set the description that the run's page shows."""
        self.tags({"mlflow.note.content": markdown})

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, also where something was not logged."""
        if self.run_id is None:
            return
        try:
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            if not self.problems:
                self.give_up(error)
