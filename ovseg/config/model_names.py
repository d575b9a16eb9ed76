"""Names of models: what they stand for, and whether it is there, without loading any."""

from __future__ import annotations

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
IN_CHECKPOINT = {"clip": "clip", "maskformer": "maskformer"}
"""Where an imported checkpoint has its models."""


def clip_folder(name: str) -> Path | None:
    """The folder a CLIP's name stands for (one that ships or a local one); None for other names.

    Of an imported checkpoint it is the folder inside that holds its CLIP.

    Raises:
        OvsegError: a folder without a CLIP, or a file.
    """
    folder, model = SHIPPED_CLIPS.get(name, (Path(name).expanduser(), ""))
    try:
        for place in (folder, folder / IN_CHECKPOINT["clip"]):
            if (place / CLIP_CONFIG).is_file():
                return place
        if model:
            raise OvsegError(
                f"no CLIP in {folder}: rebuild it with python -m flows.pretrain {model}"
            )
        if folder.is_dir():
            raise OvsegError(f"{folder} has no {CLIP_CONFIG}: is it a folder save_clip wrote?")
        if folder.is_file():
            raise OvsegError(f"{folder} is a file: `ovseg import-checkpoint` makes a folder of it")
    except OSError as error:
        raise OvsegError(f"{folder} cannot be read ({error.strerror}): name a CLIP") from error
    return None


def check_clip_tag(name: str) -> None:
    """Refuse what does not begin as `ARCHITECTURE/pretrained` of open_clip; does not import it.

    Raises:
        OvsegError: for another name.
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
    """The folder a MaskFormer's name stands for, inside an imported checkpoint too.

    A hub id is given back.
    """
    if (shipped := shipped_maskformer(name)) is not None:
        return shipped
    folder = Path(name).expanduser()
    imported = folder / IN_CHECKPOINT["maskformer"]
    return imported if imported.is_dir() and not (folder / MASKFORMER_CONFIG).is_file() else folder


def missing_maskformer(name: str) -> OvsegError | None:
    """What is to be said where a network that ships is not there; None of every other name."""
    folder, split = maskformer_folder(name), storybook_split(name)
    if (folder / MASKFORMER_CONFIG).is_file():
        return None
    if split is not None:
        return OvsegError(
            f"{folder}: there is no storybook MaskFormer for split {split};"
            f" run python -m flows.pretrain maskformer --split {split}"
        )
    if name == MASK2FORMER:
        return OvsegError(
            f"{folder}: no Mask2Former there; run python -m flows.pretrain mask2former"
        )
    return None


def find_parser(name: str) -> Path | str:
    """The folder of a spaCy pipeline, or the name of an installed package that is one.

    Args:
        name: `storybook`, a package, or a folder.

    Raises:
        OvsegError: there is no such pipeline.
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
