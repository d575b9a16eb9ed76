"""The MLflow run of a flow: params, metrics, datasets, files. Used only in the flow's process.

A flow opens a run with `track(...)`; a flow called inside it opens a child, to any depth. Small
files (configs, manifests, tables of scores, images, reports) are uploaded; an adapted CLIP is
uploaded once, as a registered model; shards and tables are referenced by path and sha256. Tracking
never fails a run: the first error is logged, the rest of the run is not tracked, and running again
logs what is on disk. To view it:

    mlflow ui --backend-store-uri sqlite:///runs/storybook/mlflow.db
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prefect.exceptions import TerminationSignal

from ovseg.config.base import Config
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.files.urls import redacted
from ovseg.models.packaged import served_model
from ovseg.stages.manifest import Manifest
from tasks.tracking.mlflow_run import MlflowRun, mlflow_name, never_fails_the_run, write_problems
from tasks.tracking.model_registry import Registered, find_scored, register, write_scores

logger = logging.getLogger("ovseg.tracking")
_current: ContextVar[TrackedRun | None] = ContextVar("tracked_run", default=None)


class TrackedRun(MlflowRun):
    """One MLflow run and its logging; safe to call when tracking is down.

    Attributes:
        registered: the model versions this run made or found, by arm.
    """

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        uri: str | None,
        parent: TrackedRun | None,
        tags: Mapping[str, str],
    ):
        self.registered: dict[str, Registered] = {}
        super().__init__(name, root=root, uri=uri, parent=parent, tags=tags)

    @never_fails_the_run
    def params(self, config: Config, fields: Sequence[str] | None = None) -> None:
        """Log the resolved configuration.

        All of it is uploaded as `config.json`, by the outermost run that logs it.

        Args:
            config: the configuration.
            fields: names of the fields that become params, with their subfields; defaults to all.
        """
        include = None if fields is None else set(fields)
        self._log_params(config.model_dump(mode="json", include=include))
        if self.parent is None or fields is None:
            text = json.dumps(redacted(config.model_dump(mode="json")), indent=1)
            self.client.log_text(self.run_id, text, "config.json")

    @never_fails_the_run
    def values(self, values: Mapping[str, Any]) -> None:
        """Log params by name; nested mappings under dotted names."""
        self._log_params(values)

    def _log_params(self, values: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [
            Param(mlflow_name(key), str(redacted(value))[:5000])
            for key, value in _flatten(values).items()
        ]
        for start in range(0, len(params), 100):
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    @never_fails_the_run
    def metrics(
        self, metrics: Mapping[str, float | None], *, model: Registered | None = None
    ) -> None:
        """Log metrics in one batch; a metric that is not a finite number is left out.

        Args:
            metrics: by name.
            model: also show them on the page of this model version.
        """
        points = [(key, value, 0) for key, value in metrics.items()]
        self._log_series(points, model_id=model.model_id if model else None)

    @never_fails_the_run
    def series(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        prefix: str,
        keys: Sequence[str],
        before: int = 0,
    ) -> None:
        """Log one metric for each of `keys` over the rows' `step`.

        Args:
            rows: with `step` and the keys.
            prefix: of the metrics' names.
            keys: columns.
            before: offset of the steps, to continue an earlier phase.
        """
        points = [(f"{prefix}/{k}", row[k], before + row["step"]) for row in rows for k in keys]
        self._log_series(points)

    def _log_series(
        self, points: Sequence[tuple[str, float | None, int]], *, model_id: str | None = None
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(mlflow_name(key), float(value), now, int(step), model_id=model_id)
            for key, value, step in points
            if value is not None and abs(value) < float("inf")
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    @never_fails_the_run
    def text(self, text: str, name: str) -> None:
        """Upload a text as a file."""
        self.client.log_text(self.run_id, text, mlflow_name(name))

    @never_fails_the_run
    def file(self, path: Path, folder: str | None = None) -> None:
        """Upload a file or a folder."""
        self._upload(path, None if folder is None else mlflow_name(folder))

    def _upload(self, path: Path, folder: str | None) -> None:
        upload = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        upload(self.run_id, str(path), folder)

    @never_fails_the_run
    def manifest(
        self, role: str, manifest: Manifest, *, upload: bool = False, model: str | None = None
    ) -> None:
        """Log a finished stage: its manifest uploaded, its other files referenced or uploaded.

        Args:
            role: its role in the run ("4-proposals"), the artifact folder below `stages`.
            manifest: the stage.
            upload: also upload the payload (images, tables of scores).
            model: address of the registered model that already holds the payload.
        """
        folder, place = manifest.folder, mlflow_name(f"stages/{role}")
        for name in ("manifest.json", "run.json"):
            self.client.log_artifact(self.run_id, str(folder / name), place)
        payload = {path for path in manifest.paths() if upload}
        for path in payload:
            target = f"{place}/{path.name}" if path.is_dir() else place
            self._upload(path, target)
        others = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("manifest.json", "run.json")
        ]
        self._log_references(place, others, model)

    @never_fails_the_run
    def references(self, role: str, paths: Sequence[Path]) -> None:
        """Log files by path, size and sha256 without uploading them."""
        self._log_references(mlflow_name(role), paths)

    def _log_references(self, folder: str, paths: Sequence[Path], model: str | None = None) -> None:
        files = [
            {
                "path": path.resolve().relative_to(self.root).as_posix(),
                "sha256": file_sha256(path),
                "bytes": path.stat().st_size,
            }
            for path in paths
        ]
        content: dict[str, Any] = {"root": str(self.root), "files": files}
        if model is not None:
            content["uploaded_as"] = model
        self.client.log_dict(self.run_id, content, f"{folder}/references.json")

    @never_fails_the_run
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

    @never_fails_the_run
    def model(
        self,
        name: str,
        *,
        clip: Path,
        settings: BenchmarkConfig,
        arm: str,
        regions: Path | None = None,
        description: str = "",
        about: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Register the segmentor with this checkpoint, once per content.

        A version with the same `content` tag (weights, settings and what these need) is not created
        again. The alias `<arm>` points at the version that the arm's latest run created or found,
        as does `registered`. A model that cannot be served gets no version: the tag
        `not_registered` says why.

        Args:
            name: of the registered model.
            clip: folder of the checkpoint.
            settings: how it segments, with the folders it needs.
            arm: the alias.
            regions: folder of the mined regions, if it retrieves.
            description: of a new version, Markdown.
            about: of a new registered model, Markdown.
            tags: of a new version.
        """
        try:
            model = served_model(settings, clip=clip, regions=regions)
        except OvsegError as error:
            logger.warning("%s of %s is not registered: %s", arm, name, error)
            self.tags({"not_registered": str(error)})
            return
        self.registered[arm] = register(
            self.client,
            self.uri,
            str(self.run_id),
            name=name,
            model=model,
            arm=arm,
            nested=self.parent is not None,
            description=description,
            about=about,
            tags=tags or {},
        )

    @never_fails_the_run
    def scores(
        self,
        scores: Mapping[str, float],
        *,
        setting: BenchmarkConfig,
        headline: Sequence[str],
        name: str,
        clip: Path | None,
        regions: Path | None = None,
    ) -> None:
        """Log a model's scores, and add the headline to its registered version.

        Args:
            scores: by metric, fractions in 0..1; logged as `<benchmark>/<metric>`.
            setting: of the benchmark; the version must segment exactly so.
            headline: the metrics that the version's page shows.
            name: of the registered model.
            clip: the adapted CLIP's folder; None for a model that was not trained.
            regions: folder of the mined regions that were retrieved from.
        """
        model, label = None, setting.benchmark
        if clip is not None:
            model = find_scored(self.client, name, setting, clip=clip, regions=regions)
        self.metrics({f"{label}/{key}": value for key, value in scores.items()}, model=model)
        if model is not None:
            shown = {key: scores[key] for key in headline if key in scores}
            write_scores(self.client, model, label, shown, weight=setting.ensemble_weight)


@contextmanager
def track(
    name: str,
    *,
    root: Path,
    uri: str | None = None,
    join: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Iterator[TrackedRun]:
    """Open a run, as a child of the one open in this context, if any.

    Args:
        name: the run's name: `mine`, `finetune`, `benchmark/<name>`, or what a person calls it.
        root: the folder of all results.
        uri: MLflow server; defaults to `<root>/mlflow.db`.
        join: use the open run, if any, instead of a child.
        tags: of the run, in addition to those of its origin.
    """
    parent = _current.get()
    if join and parent is not None:
        yield parent
        return
    run = TrackedRun(name, root=root.resolve(), uri=uri, parent=parent, tags=tags or {})
    token = _current.set(run)
    try:
        yield run
    except (KeyboardInterrupt, TerminationSignal):  # the latter is how Prefect cancels
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
            write_problems(run.problems, root / "tracking-problems.txt")


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten `{"a": {"b": 1}, "c": [{"d": 2}]}` into `{"a.b": 1, "c.0.d": 2}`."""
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
