"""A registered model: its settings, and folders with everything they need.

    model = served_model(BenchmarkConfig(prompting="mined", contexts_from=nouns), clip=checkpoint)
    artifacts = model.write(Path("upload"))          # settings, clip, contexts_from
    config, regions = restored(artifacts)            # on another machine, where `nouns` is not

Local files are packaged: checkpoint, mined contexts, pixel embeddings, a proposal network's folder
and the regions for retrieval. Shipped models and hub ids are kept as names. Settings that only
affect scoring are left out, so that equal models have the same content.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg.config.model_names import maskformer_folder
from ovseg.config.renamed import translated
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json, known_sha256, module_digest
from ovseg.models.proposals.patch_features import TIMM, clip_folder_or_none, patches_of
from ovseg.models.regions.memory import REGIONS_FILE
from ovseg.models.texts.strategies import CONTEXTS_FILE, contexts_text, read_contexts
from ovseg.models.weights.folders import CONFIG_FILE, TEXTS_FILE, WEIGHTS_FILE

HERE = "{folder}"
"""Placeholder in a setting's value for the folder packaged under the setting's name."""
SETTINGS, REGIONS = "settings", "regions"
OF_SCORING = ("limit", "shard_size", "min_shards", "seen_split", "oracle")
WEIGHTLESS = ("slic", "felzenszwalb")
"""The entries of `ovseg.config.registry.PROPOSERS` that have no weights."""
SHIPPED = re.compile(r"storybook(-\w+)?")
LOCAL_TIMM = f"{TIMM}local-dir:"

Part = Mapping[str, Path | bytes]
"""The content of a folder, by file name."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A packaged model.

    Attributes:
        settings: the settings of a `BenchmarkConfig` that affect answers, as JSON values; `HERE`
            is the placeholder of a folder.
        parts: the folders, by the setting that names them, and `regions`, which is not a setting.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, Part]

    @property
    def content(self) -> str:
        """16 hex digits over settings, files and code; equal for models with equal answers."""
        files = {
            name: [[file, _sha256(part[file])] for file in sorted(part)]
            for name, part in self.parts.items()
        }
        code = module_digest("ovseg.serving")  # included: it decides which requests are valid
        return digest_json([dict(self.settings), files, code])[:16]

    def write(self, folder: Path) -> dict[str, Path]:
        """Write the settings, copy the folders, and return their paths by name.

        Args:
            folder: an empty folder.
        """
        artifacts = {SETTINGS: folder / f"{SETTINGS}.json"}
        artifacts[SETTINGS].write_text(json.dumps(self.settings, indent=1), encoding="utf-8")
        for name, part in self.parts.items():
            artifacts[name] = folder / name
            artifacts[name].mkdir()
            for file, content in part.items():
                if isinstance(content, bytes):
                    (artifacts[name] / file).write_bytes(content)
                else:
                    shutil.copyfile(content, artifacts[name] / file)  # links are followed
        return artifacts


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return known_sha256(content)


def served_model(
    config: BenchmarkConfig, *, clip: Path, regions: Path | None = None
) -> ServedModel:
    """Return the packaged model that segments as a benchmark does.

    It is never an oracle, even if the benchmark is: a served model has no ground truth.

    Args:
        config: the benchmark's configuration.
        clip: folder of the CLIP; only its top-level files are used, not the snapshots below.
        regions: folder of a `RegionMemory`, if the configuration retrieves.

    Raises:
        OvsegError: if the configuration needs something that is missing.
    """
    settings: dict[str, Any] = config.result_fields() | {"clip": HERE}
    parts: dict[str, Part] = {"clip": _top(clip)}
    if config.prompting == "mined":
        settings["contexts_from"] = HERE
        parts["contexts_from"] = {CONTEXTS_FILE: _contexts(config)}
    if config.segmentor == "pixels" or config.embedder == "pixel_pooling":
        settings["pixels"] = HERE
        parts["pixels"] = _network(_pixels(config))
    if not pixels_alone(config):
        settings["maskformer"], files = _proposer(config)
        parts |= {"maskformer": files} if files else {}
    if config.retrieval_weight:
        parts[REGIONS] = {REGIONS_FILE: _regions(config, regions)}
    for name in _without_effect(config):
        settings.pop(name, None)
    return ServedModel(settings=settings, parts=parts)


def pixels_alone(config: BenchmarkConfig) -> bool:
    """Whether no weights propose masks, so that `maskformer` is unused."""
    return config.segmentor == "pixels" or config.proposals in WEIGHTLESS


def restored(artifacts: Mapping[str, str | Path]) -> tuple[BenchmarkConfig, Path | None]:
    """Restore what `ServedModel.write` wrote, from any location.

    Args:
        artifacts: its folders and the settings file, by name.

    Returns:
        The configuration, whose `clip` is the folder, and the folder of regions for retrieval.
    """
    settings = json.loads(Path(artifacts[SETTINGS]).read_text(encoding="utf-8"))
    for name, value in settings.items():
        if isinstance(value, str) and HERE in value:
            settings[name] = value.replace(HERE, str(artifacts[name]))
    regions = artifacts.get(REGIONS)
    config = BenchmarkConfig(**translated("benchmarks", settings))
    return config, None if regions is None else Path(regions)


# --------------------------------------------------------------------------------------
# Requirements of settings


def _without_effect(config: BenchmarkConfig) -> set[str]:
    """Return the settings that do not affect this model's answers."""
    unused = set(OF_SCORING)
    if config.seen_weight is None:
        unused |= {"seen", "trained_on"}
    own = config.vocabulary == "own" or config.ensemble == "maskformer_only"
    if not (own or config.synonyms or "trained_on" not in unused):
        unused.add("benchmark")  # otherwise its listed synonyms and classes are used
    if config.prompting != "mined":
        unused.add("contexts")
    if not config.retrieval_weight:
        unused.add("retrieval_neighbors")
    if pixels_alone(config):
        unused.add("maskformer")
    return unused


def _top(folder: Path) -> dict[str, Path | bytes]:
    """Return the files of a folder, without those in subfolders."""
    if not folder.is_dir():
        raise OvsegError(f"{folder} is not a folder: a registered model needs its files")
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def _network(folder: Path) -> dict[str, Path | bytes]:
    """Return the files of a network, without its training log."""
    files = _top(folder)
    if TEXTS_FILE in files:
        return {name: files[name] for name in (CONFIG_FILE, WEIGHTS_FILE, TEXTS_FILE)}
    return files


def _contexts(config: BenchmarkConfig) -> bytes:
    if config.contexts_from is None:
        raise OvsegError(
            "benchmarks.prompting=mined needs its contexts to be served: set"
            " benchmarks.contexts_from to the folder of a nouns stage, <root>/nouns/<digest>"
        )
    return contexts_text(read_contexts(config.contexts_from), config.contexts).encode()


def _pixels(config: BenchmarkConfig) -> Path:
    folder = Path(config.pixels).expanduser()
    if not config.pixels or not (folder / CONFIG_FILE).is_file():
        raise OvsegError(
            f"benchmarks.pixels={config.pixels!r} is not a folder of pixel embeddings, which"
            " segmentor=pixels and embedder=pixel_pooling need: name a trained network's folder"
        )
    return folder


def _regions(config: BenchmarkConfig, regions: Path | None) -> Path:
    if regions is None or not (regions / REGIONS_FILE).is_file():
        raise OvsegError(
            f"benchmarks.retrieval_weight={config.retrieval_weight:g} needs mined regions to be"
            " served, but there are none: set it to 0, or train with `ovseg finetune`"
        )
    return regions / REGIONS_FILE


def _proposer(config: BenchmarkConfig) -> tuple[str, Part]:
    """Return a proposal network's setting, and its files if the setting is not just a name."""
    name = patches_of(config.maskformer) if _of_patches(config) else config.maskformer
    if not name:
        raise OvsegError("benchmarks.maskformer is empty: name the weights that propose masks")
    if SHIPPED.fullmatch(name):
        return name, {}
    if name.startswith(LOCAL_TIMM):
        return LOCAL_TIMM + HERE, _top(Path(name.removeprefix(LOCAL_TIMM)))
    architecture, _, tail = name.partition("/")
    if _of_patches(config) and architecture and Path(tail).is_file():  # of a CLIP
        return f"{architecture}/{HERE}/{Path(tail).name}", {Path(tail).name: Path(tail)}
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name, {}  # a hub id, or a tag of open_clip
    inside = clip_folder_or_none(name) if _of_patches(config) else maskformer_folder(name)
    return HERE, _network(inside or folder)


def _of_patches(config: BenchmarkConfig) -> bool:
    return config.proposals in ("maskcut", "clusters")
