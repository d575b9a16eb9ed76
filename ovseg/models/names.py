"""Names of devices and models: as a person writes them, and as they stand in tables."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg.errors import OvsegError

if TYPE_CHECKING:
    import torch

    from ovseg.stages import Inputs

WEIGHTS = Path(__file__).resolve().parents[1] / "storybook" / "weights"
"""Where the models that ship lie."""
PARSER = WEIGHTS / "parser"
SHIPPED_CLIPS = {
    "storybook": (WEIGHTS / "clip", "train_clip"),
    "storybook-conv": (WEIGHTS / "conv_clip", "train_conv_clip"),
}
"""Folder and flow of the CLIPs that ship, by name."""
CLIP_CONFIG = "open_clip_config.json"
MASKFORMER_CONFIG = "config.json"
MASK2FORMER = "storybook-mask2former"
"""The name of the small Mask2Former that ships, trained on split 0's seen categories."""
IN_CHECKPOINT = {"clip": "clip", "maskformer": "maskformer"}
"""Where an imported checkpoint has its models."""


def clip_folder(name: str) -> Path | None:
    """The folder a CLIP's name stands for (one that ships or a local one); None for other names.

    Of an imported checkpoint it is the folder inside that holds its CLIP.

    Raises:
        OvsegError: a folder without a CLIP, or a file.
    """
    folder, flow = SHIPPED_CLIPS.get(name, (Path(name).expanduser(), ""))
    try:
        for place in (folder, folder / IN_CHECKPOINT["clip"]):
            if (place / CLIP_CONFIG).is_file():
                return place
        if flow:
            raise OvsegError(f"no CLIP in {folder}: rebuild it with python -m flows.{flow}")
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
    split = storybook_split(name)
    if split is not None:
        return storybook_weights(split)
    if name == MASK2FORMER:
        return WEIGHTS / "mask2former"
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
            f" run python -m flows.train_maskformer --split {split}"
        )
    if name == MASK2FORMER:
        return OvsegError(f"{folder}: no Mask2Former there; run python -m flows.train_mask2former")
    return None


def storybook_split(name: str) -> int | None:
    """The split of the categories whose compact MaskFormer a name means, if it means one."""
    shipped = re.fullmatch(r"storybook(?:-(\d+))?", name)
    return int(shipped[1] or 0) if shipped else None


def storybook_weights(split: int) -> Path:
    """Where the compact MaskFormer lies that saw masks of one split's seen categories only.

    Args:
        split: as in `ovseg.storybook.catalogue.split`; 0 is the network named `storybook`.
    """
    return WEIGHTS / "maskformer" / f"split-{split}"


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
                "`python -m flows.train_parser --treebank DIR`"
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


def resolve_device(name: str) -> str:
    """The device a configuration means.

    Args:
        name: `auto` (the first GPU, else the CPU) or a torch device.

    Raises:
        OvsegError: if there is no such device on this machine.
    """
    import torch  # here, as names alone need none of it

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # unknown, or not on this machine
        reason = str(error).splitlines()[0][:120]
        raise OvsegError(f"device {name!r} cannot be used ({reason}); set it to auto") from error
    return name


def autocast(device: str, precision: str) -> torch.autocast:
    """A context in which a device's networks compute in bfloat16, if `precision` is `bf16`.

    Args:
        device: a torch device.
        precision: `fp32` or `bf16`.
    """
    import torch

    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )


def clip_name(configured: str, inputs: Inputs) -> str:
    """The CLIP of a stage: the folder of an input in the role `checkpoint`, else the configured."""
    return str(inputs["checkpoint"].payload()) if "checkpoint" in inputs else configured


def model_label(name: str, digest: str) -> str:
    """What tables call a model: its name without local folders, and 8 digits of its digest."""
    prefix, _, tail = name.partition("/")
    if Path(name).exists():
        name = Path(name).name
    elif tail and Path(tail).is_file():
        name = f"{prefix}/{Path(tail).name}"
    return f"{name}@{digest[:8]}"
