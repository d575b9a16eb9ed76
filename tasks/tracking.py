"""What a run leaves in MLflow: params, metrics, datasets, files. Called in the flow's process only.

A flow opens a run with `track(...)`; a flow called inside it opens a child. Small files (configs,
manifests, stats, pictures, checkpoints) are uploaded; shards and tables are referenced by path and
sha256. Tracking never fails a run: the first failure is reported, the rest of the run goes
untracked, and running again logs what is on disk. To look at it:

    mlflow ui --backend-store-uri sqlite:///runs/storybook/mlflow.db
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from ovseg.config import Config
from ovseg.storage import Manifest, file_sha256, publish_text

logger = logging.getLogger("ovseg.tracking")
EXPERIMENT = "ovseg"
_current: ContextVar[TrackedRun | None] = ContextVar("tracked_run", default=None)
P = ParamSpec("P")


def _reported(method: Callable[P, None]) -> Callable[P, None]:
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


class TrackedRun:
    """One MLflow run; every method is safe to call when tracking is down."""

    def __init__(self, name: str, *, root: Path, uri: str | None, parent: TrackedRun | None):
        self.name, self.root, self.parent = name, root, parent
        self.run_id: str | None = None
        self.problems: list[str] = parent.problems if parent else []
        self.uri = tracking_uri(root, uri)
        self._open()

    def give_up(self, error: Exception) -> None:
        """Note why tracking failed; nothing more is logged, neither here nor in other runs."""
        lines = str(error).strip().splitlines() or [""]
        problem = f"MLflow run {self.name!r} at {self.uri}: {type(error).__name__}: {lines[0]}"
        logger.warning("tracking failed, the run goes on without: %s", problem)
        self.problems.append(problem)

    @_reported
    def _open(self) -> None:
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        self.root.mkdir(parents=True, exist_ok=True)
        self.client = self.parent.client if self.parent else MlflowClient(tracking_uri=self.uri)
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            experiment_id = experiment.experiment_id
        else:
            local = self.uri.startswith("sqlite:")
            location = (self.root / "mlartifacts").resolve().as_uri() if local else None
            experiment_id = self.client.create_experiment(EXPERIMENT, artifact_location=location)
        tags = {"mlflow.parentRunId": self.parent.run_id} if self.parent else {}
        run = self.client.create_run(experiment_id, run_name=self.name, tags=tags)
        self.run_id = run.info.run_id

    @_reported
    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    @_reported
    def params(self, config: Config) -> None:
        """Log the resolved configuration: each field as a param, the whole as `config.json`."""
        from mlflow.entities import Param

        flat = _flatten(config.model_dump(mode="json"))
        params = [Param(key, str(value)[:5000]) for key, value in flat.items()]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])
        self.client.log_text(self.run_id, config.model_dump_json(indent=1), "config.json")

    @_reported
    def metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log metrics in one batch; a metric that is not a finite number is left out."""
        self._log_series([(key, value, step) for key, value in metrics.items()])

    @_reported
    def series(
        self, rows: Sequence[Mapping[str, Any]], *, prefix: str, keys: Sequence[str]
    ) -> None:
        """Log one metric for each of `keys` over the rows' `step`."""
        self._log_series([(f"{prefix}/{k}", row[k], row["step"]) for row in rows for k in keys])

    def _log_series(self, points: Sequence[tuple[str, float | None, int]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, int(step))
            for key, value, step in points
            if value is not None and abs(value) < float("inf")
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    @_reported
    def text(self, text: str, name: str) -> None:
        """Upload a text as a file."""
        self.client.log_text(self.run_id, text, name)

    @_reported
    def file(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""
        self._upload(path, folder)

    def _upload(self, path: Path, folder: str | None) -> None:
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        upload(self.run_id, str(path), folder)

    @_reported
    def manifest(self, role: str, manifest: Manifest, *, upload: bool = False) -> None:
        """Log a finished stage: its manifest uploaded, its other files referenced or uploaded.

        Args:
            role: what it is in the run ("proposals", "checkpoint/both"), the artifact folder.
            manifest: the stage.
            upload: also upload the payload (pictures, checkpoints, class tables).
        """
        folder = manifest.folder
        for name in ("manifest.json", "run.json"):
            self.client.log_artifact(self.run_id, str(folder / name), f"stages/{role}")
        payload = {path for path in manifest.paths() if upload}
        for path in payload:
            target = f"stages/{role}/{path.name}" if path.is_dir() else f"stages/{role}"
            self._upload(path, target)
        others = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "run.json")
        ]
        self._log_references(f"stages/{role}", others)

    @_reported
    def references(self, role: str, paths: Sequence[Path]) -> None:
        """Log files by path, size and sha256 without uploading them."""
        self._log_references(role, paths)

    def _log_references(self, folder: str, paths: Sequence[Path]) -> None:
        files = [
            {
                "path": path.resolve().relative_to(self.root).as_posix(),
                "sha256": file_sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in paths
        ]
        self.client.log_dict(self.run_id, {"files": files}, f"{folder}/references.json")

    @_reported
    def dataset(self, name: str, manifest: Manifest, *, context: str) -> None:
        """Log a stage as a dataset of this run, under our own content digest."""
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        source = CodeDatasetSource({"path": str(manifest.folder), "stage": manifest.stage})
        dataset = MetaDataset(source, name=name, digest=manifest.content_digest[:36])
        entity = dataset._to_mlflow_entity()
        tag = InputTag("mlflow.data.context", context)
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [tag])])

    @_reported
    def model(self, name: str, *, clip: Path, settings: Config, arm: str) -> None:
        """Register the segmentor with this checkpoint, once a content.

        The model is code plus safetensors, never a pickle; a version whose `content` tag equals
        the checkpoint's digest is registered already and not made again. The alias `<arm>` points
        at what the arm's latest run made; who reviews it sets `champion`.
        """
        content = file_sha256(clip)[:16]
        known = self.client.search_model_versions(f"name='{name}'")
        same = [str(found.version) for found in known if found.tags.get("content") == content]
        version = same[0] if same else self._register(name, clip, settings)
        if not same:
            self.client.set_model_version_tag(name, version, "content", content)
            self.client.set_model_version_tag(name, version, "arm", arm)
        self.client.set_registered_model_alias(name, arm, version)

    def _register(self, name: str, clip: Path, settings: Config) -> str:
        import mlflow

        code = Path(__file__).resolve().parent.parent / "ovseg" / "serving.py"
        mlflow.set_tracking_uri(self.uri)
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(io.StringIO()),  # MLflow tells of its own workings there
            mlflow.start_run(run_id=self.run_id, nested=self.parent is not None),
        ):
            path = Path(folder) / "settings.json"
            path.write_text(json.dumps(settings.published(), indent=1), encoding="utf-8")
            logged = mlflow.pyfunc.log_model(
                name="segmentor",
                python_model=str(code),
                artifacts={"clip": str(clip), "settings": str(path)},
                registered_model_name=name,
                pip_requirements=["ovseg"],
            )
        return str(logged.registered_model_version)

    def close(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED, also where something was not logged."""
        if self.run_id is None:
            return
        try:
            self.client.set_terminated(self.run_id, status)
        except Exception as error:
            if not self.problems:
                self.give_up(error)


@contextmanager
def track(
    name: str, *, root: Path, uri: str | None = None, join: bool = False
) -> Iterator[TrackedRun]:
    """Open a run, as a child of the one that is open in this context if there is one.

    Args:
        name: the run's name: the flow's, or `benchmark/<name>`.
        root: the folder of all results.
        uri: MLflow server; `<root>/mlflow.db` where empty.
        join: use the run that is open, if there is one, instead of a child of it.
    """
    parent = _current.get()
    if join and parent is not None:
        yield parent
        return
    run = TrackedRun(name, root=root.resolve(), uri=uri, parent=parent)
    token = _current.set(run)
    if parent is None:
        run.tags({"git_commit": git_commit(), **_flow_tags()})
    try:
        yield run
    except KeyboardInterrupt:
        run.close("KILLED")
        raise
    except BaseException:
        run.close("FAILED")
        raise
    else:
        run.close("FINISHED")
    finally:
        _current.reset(token)
        if parent is None:
            text = "".join(f"{problem}\n" for problem in run.problems)
            publish_text(text, root / "tracking-problems.txt")


def git_commit() -> str:
    """The commit of the code, with `+changes` where the tree is not clean; `unknown` elsewhere."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _flow_tags() -> dict[str, str]:
    """Tags that lead from the MLflow run to the Prefect flow run."""
    from prefect.runtime import flow_run

    if not flow_run.id:
        return {}
    return {
        "prefect.flow_run_id": str(flow_run.id),
        "prefect.flow_run_name": str(flow_run.name),
        "prefect.flow_name": str(flow_run.flow_name),
    }


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}, "c": [{"d": 2}]}` as `{"a.b": 1, "c.0.d": 2}`."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, list) and item and isinstance(item[0], dict):
            item = {str(index): member for index, member in enumerate(item)}
        if isinstance(item, dict):
            flat.update(_flatten(item, f"{name}."))
        else:
            flat[name] = item
    return flat
