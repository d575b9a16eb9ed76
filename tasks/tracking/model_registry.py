"""Registered models: the segmentor with an adapted CLIP, as a version with what a reviewer asks.

A version is named by its content, the weights, the settings and what these need, and made once. Its
alias is its arm; whoever reviews it sets `champion`:

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
"""Packages whose version may change what a segmentor answers."""
_SCORES = "\n\n### Scores\n"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: str
    model_id: str | None

    @property
    def uri(self) -> str:
        """What `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.name}/{self.version}"


def find_version(client: MlflowClient, name: str, content: str) -> Registered | None:
    """The version of a content, `ServedModel.content`: of these weights, settings and folders."""
    for found in client.search_model_versions(f"name='{name}'"):
        if found.tags.get("content") == content:
            return _registered(found)
    return None


def find_scored(
    client: MlflowClient,
    name: str,
    setting: BenchmarkConfig,
    *,
    clip: Path,
    regions: Path | None,
) -> Registered | None:
    """The version that a benchmark scored, if there is one that segments just as it did.

    Only the weight of the ensemble may be the benchmark's own, as the paper has one for each. Of an
    oracle or of the first few images alone no scores are a version's.

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
        except OvsegError:  # what cannot be served was not registered
            return None
        if found := find_version(client, name, content):
            return found
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
    """Make a version of a registered model, unless there is one of its content.

    Args:
        client: of the server.
        uri: its address.
        run_id: the run that made the checkpoint.
        name: of the registered model, made on the first version.
        model: its settings and all they need.
        arm: the alias, which points at the version afterwards.
        nested: whether the run is a child.
        description: Markdown of a new version.
        about: Markdown of the registered model, where it has none yet.
        tags: of a new version, beside `content`, `arm` and `ensemble_weight`.
    """
    content = model.content
    found = find_version(client, name, content)
    if found is None:
        version = _log(uri, run_id, name, model, arm, nested=nested)
        found = _registered(client.get_model_version(name, version))
        weight = str(model.settings["ensemble_weight"])
        own = {"content": content, "arm": arm, WEIGHT: weight}
        for key, value in {**tags, **own}.items():
            client.set_model_version_tag(name, found.version, mlflow_name(key), value)
        client.update_model_version(name, found.version, description)
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, about)
    client.set_registered_model_alias(name, alias_name(arm), found.version)
    return found


def _registered(version: ModelVersion) -> Registered:
    # SQLite's store leaves the version's own `model_id` empty: where it was made from says it
    source = str(version.source)
    model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    return Registered(version.name, str(version.version), model_id)


def _log(uri: str, run_id: str, name: str, model: ServedModel, arm: str, *, nested: bool) -> str:
    """Upload the model and register it; gives the version."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stderr(io.StringIO()),  # MLflow tells of its own workings there
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
    """What a server of the model installs: this version of ovseg and of all it computes with."""
    versions = {package: importlib.metadata.version(package) for package in ("ovseg", *COMPUTES)}
    return [f"{package}=={version.partition('+')[0]}" for package, version in versions.items()]


def _signature() -> Any:
    """What `ovseg.serving` takes and gives."""
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
    """Put a version's scores on a benchmark into its tags and its description.

    Args:
        client: of the server.
        model: the version.
        benchmark: its name.
        scores: headline metrics, fractions in 0..1.
        weight: of the ensemble on this benchmark, shown where it is not the version's own.
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
