"""Resolution of model names to folders or packages, without loading any model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from ovseg.errors import OvsegError
from ovseg.storybook.weights import (
    MASK2FORMER,
    PARSER,
    SHIPPED_CLIPS,
    shipped_maskformer,
    storybook_split,
)

CLIP_CONFIG = "open_clip_config.json"
MASKFORMER_CONFIG = "config.json"
"""Subfolders of an imported checkpoint, by model."""


def clip_folder(name: str) -> Path | None:
    """Return the folder of a CLIP, shipped or local; None for other names.

    For an imported checkpoint, this is the subfolder that holds its CLIP.

    Raises:
        OvsegError: the name is a folder without a CLIP, or a file.
    """
    folder, model = SHIPPED_CLIPS.get(name, (Path(name).expanduser(), ""))
    try:
        for place in (folder, folder / "clip"):
            if (place / CLIP_CONFIG).is_file():
                return place
        if model:
            raise OvsegError(
                f"no CLIP in {folder}: rebuild it with python -m flows.pretrain {model}"
            )
        if folder.is_dir():
            raise OvsegError(f"{folder} has no {CLIP_CONFIG}: was it written by save_clip?")
        if folder.is_file():
            raise OvsegError(f"{folder} is a file: `ovseg import-checkpoint` makes a folder of it")
    except OSError as error:
        raise OvsegError(f"{folder} cannot be read ({error.strerror}): name a CLIP") from error
    return None


def check_clip_tag(name: str) -> None:
    """Reject names other than open_clip's `ARCHITECTURE/pretrained`, without importing open_clip.

    Raises:
        OvsegError: the architecture is unknown, or nothing follows it.
    """
    architecture, _, pretrained = name.partition("/")
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None
    models = Path(package.origin).parent / "model_configs"
    known = {file.stem for file in models.glob("*.json")}
    if loaded := sys.modules.get("open_clip"):  # a program may have added configurations
        known.update(loaded.list_models())
    if architecture not in known or not pretrained:
        raise OvsegError(
            f"no CLIP named {name!r}: give 'storybook', a folder with {CLIP_CONFIG}, or "
            "'ARCHITECTURE/pretrained' of open_clip such as ViT-L-14-quickgelu/openai"
        )


def maskformer_folder(name: str) -> Path:
    """Return the folder of a MaskFormer, which may be inside an imported checkpoint.

    A hub id is returned unchanged.
    """
    if (shipped := shipped_maskformer(name)) is not None:
        return shipped
    folder = Path(name).expanduser()
    imported = folder / "maskformer"
    return imported if imported.is_dir() and not (folder / MASKFORMER_CONFIG).is_file() else folder


def missing_maskformer(name: str) -> OvsegError | None:
    """Return the error for a shipped network that is missing; None for any other name."""
    folder, split = maskformer_folder(name), storybook_split(name)
    if (folder / MASKFORMER_CONFIG).is_file():
        return None
    if split is not None:
        return OvsegError(
            f"{folder}: the storybook MaskFormer for split {split} is missing;"
            f" run python -m flows.pretrain maskformer --split {split}"
        )
    if name == MASK2FORMER:
        return OvsegError(
            f"{folder}: the Mask2Former is missing; run python -m flows.pretrain mask2former"
        )
    return None


def find_parser(name: str) -> Path | str:
    """Return the folder of a spaCy pipeline, or the name of its installed package.

    Args:
        name: `storybook`, a package, or a folder.

    Raises:
        OvsegError: the pipeline does not exist.
    """
    if name == "storybook":
        if not (PARSER / "config.cfg").is_file():
            raise OvsegError(
                "the storybook parser's weights are missing; rebuild them with "
                "`python -m flows.pretrain parser --treebank DIR`"
            )
        return PARSER
    try:
        importlib.metadata.distribution(name)
        return name
    except (importlib.metadata.PackageNotFoundError, ValueError):
        if (Path(name) / "config.cfg").is_file():
            return Path(name)
    raise OvsegError(
        f"parser {name!r} is neither `storybook` nor an installed spaCy package nor a pipeline's "
        f"folder; install it with `python -m spacy download {Path(name).name}`"
    )
