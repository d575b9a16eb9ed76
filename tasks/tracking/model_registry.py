"""Registered models: the segmentor with an adapted CLIP as a version for review.

A version is identified by its content (the weights, the settings and what these need) and created
once. Its alias is its arm; the reviewer sets `champion`:

    client.set_registered_model_alias("ovseg-storybook", "champion", 3)
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ovseg
from ovseg.comparison.words import markdown_table, percent
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.models.packaged import ServedModel, served_model
from tasks.tracking.mlflow_run import alias_name, mlflow_name

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

SERVING = Path(ovseg.__file__).with_name("serving.py")
WEIGHT = "ensemble_weight"
COMPUTES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "timm",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-image",
    "pillow",
    "pycocotools",
)
"""Packages whose version may change a segmentor's results."""
_SCORES = "\n\n### Scores\n"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    model_id: str | None

    @property
    def uri(self) -> str:
        """The URI for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"


def find_version(client: MlflowClient, name: str, content: str) -> Registered | None:
    """Find the version with a `ServedModel.content`: its weights, settings and folders."""
    for registered in client.search_model_versions(f"name='{name}'"):
        if registered.tags.get("content") == content:
            return _registered(registered)
    return None


def find_scored(
    client: MlflowClient,
    name: str,
    setting: BenchmarkConfig,
    *,
    clip: Path,
    regions: Path | None,
) -> Registered | None:
    """Find the version that a benchmark scored, if one segments exactly as it did.

    Only the ensemble weight may differ, as the paper has one per benchmark. Scores of an oracle or
    of only the first images belong to no version.

    Args:
        client: of the server.
        name: of the registered model.
        setting: of the benchmark.
        clip: folder of the checkpoint.
        regions: folder of the mined regions it retrieved from.
    """
    if setting.oracle != "none" or setting.limit is not None:
        return None
    versions = client.search_model_versions(f"name='{name}'")
    others = {float(each.tags[WEIGHT]) for each in versions if WEIGHT in each.tags}
    for weight in dict.fromkeys([setting.ensemble_weight, *sorted(others)]):
        like = setting.model_copy(update={"ensemble_weight": weight})
        try:
            content = served_model(like, clip=clip, regions=regions).content
        except OvsegError:  # models that cannot be served are not registered
            return None
        if registered := find_version(client, name, content):
            return registered
    return None


def register(
    client: MlflowClient,
    uri: str,
    run_id: str,
    *,
    name: str,
    model: ServedModel,
    arm: str,
    nested: bool,
    description: str,
    about: str,
    tags: Mapping[str, str],
) -> Registered:
    """Create a version of a registered model, unless one with its content exists.

    Args:
        client: of the server.
        uri: its address.
        run_id: the run that made the checkpoint.
        name: of the registered model, created with the first version.
        model: its settings and all they need.
        arm: the alias, which then points at the version.
        nested: whether the run is a child.
        description: Markdown of a new version.
        about: Markdown of the registered model, if it has none yet.
        tags: of a new version, in addition to `content`, `arm` and `ensemble_weight`.
    """
    content = model.content
    registered = find_version(client, name, content)
    if registered is None:
        version = _log(uri, run_id, name, model, arm, nested=nested)
        registered = _registered(client.get_model_version(name, version))
        weight = str(model.settings["ensemble_weight"])
        own = {"content": content, "arm": arm, WEIGHT: weight}
        for key, value in {**tags, **own}.items():
            client.set_model_version_tag(name, registered.version, mlflow_name(key), value)
        client.update_model_version(name, registered.version, description)
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, about)
    client.set_registered_model_alias(name, alias_name(arm), registered.version)
    return registered


def _registered(version: ModelVersion) -> Registered:
    # SQLite's store leaves the version's `model_id` empty; its source has it
    source = str(version.source)
    model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    return Registered(version.name, str(version.version), model_id)


def _log(uri: str, run_id: str, name: str, model: ServedModel, arm: str, *, nested: bool) -> str:
    """Upload the model, register it and return the version."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stderr(io.StringIO()),  # MLflow prints internals there
        mlflow.start_run(run_id=run_id, nested=nested),
    ):
        artifacts = {key: str(path) for key, path in model.write(Path(folder)).items()}
        logged = mlflow.pyfunc.log_model(
            name=alias_name(f"{name}-{arm}"),
            python_model=str(SERVING),
            artifacts=artifacts,
            registered_model_name=name,
            signature=_signature(),
            pip_requirements=pip_requirements(),
        )
    return str(logged.registered_model_version)


def pip_requirements() -> list[str]:
    """Return the requirements of a model server: this ovseg and the packages it computes with."""
    versions = {package: importlib.metadata.version(package) for package in ("ovseg", *COMPUTES)}
    return [f"{package}=={version.partition('+')[0]}" for package, version in versions.items()]


def _signature() -> Any:
    """Return the signature of `ovseg.serving`."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    segment = Object(
        [
            Property("class", DataType.string),
            Property("area_fraction", DataType.double),
            Property("counts", DataType.string),
        ]
    )
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image"), ColSpec(DataType.string, "classes")]),
        outputs=Schema(
            [
                ColSpec(Array(DataType.long), "size"),
                ColSpec(Array(segment), "segments"),
                ColSpec(DataType.string, "error", required=False),
            ]
        ),
    )


def write_scores(
    client: MlflowClient,
    model: Registered,
    benchmark: str,
    scores: Mapping[str, float],
    *,
    weight: float,
) -> None:
    """Write a version's scores on a benchmark into its tags and description.

    Args:
        client: of the server.
        model: the version.
        benchmark: its name.
        scores: headline metrics, fractions in 0..1.
        weight: of the ensemble on this benchmark, shown if it differs from the version's.
    """
    benchmark = mlflow_name(benchmark)
    client.set_model_version_tag(model.name, model.version, f"{WEIGHT}.{benchmark}", str(weight))
    for metric, value in scores.items():
        key = f"{benchmark}/{metric}"
        client.set_model_version_tag(model.name, model.version, mlflow_name(key), f"{value:.6f}")
    version = client.get_model_version(model.name, model.version)
    head = (version.description or "").split(_SCORES)[0]
    rows = [["benchmark", "metric", "%"]]
    for key, value in sorted(version.tags.items()):
        of, slash, metric = key.partition("/")
        if slash:
            own = version.tags.get(f"{WEIGHT}.{of}")
            other = "" if own == version.tags.get(WEIGHT) else f" (ensemble weight {own})"
            rows.append([f"{of}{other}", metric, percent(float(value))])
    table = "\n".join(["", *markdown_table(rows, text=2)])
    client.update_model_version(model.name, model.version, head + _SCORES + table)
