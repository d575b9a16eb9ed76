"""What a request names is looked for before anything is loaded: folders, files, models.

A wrong path is refused in a moment, not after half a minute of imports. What is in a folder is
looked at where it is read; here it is whether there is one, and who may read or write it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ovseg.config.data import ImagesConfig
from ovseg.config.model_names import (
    CLIP_CONFIG,
    MASKFORMER_CONFIG,
    check_clip_tag,
    clip_folder,
    find_parser,
    maskformer_folder,
    missing_maskformer,
)
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.access import check_file, check_folder, check_new
from ovseg.pretraining.on_demand import TRAINED
from ovseg.storybook.weights import WEIGHTS

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
SMALL_CAPTIONS = 2**25
"""Bytes of a captions file that is read before anything is loaded; a larger one takes its time."""


def check_available(config: RunConfig, *, mines: bool) -> None:
    """Find what a run is going to read, and the folder it writes to.

    Args:
        config: of the run.
        mines: pairs are mined, or found mined: the models of mining and labels are needed as well.

    Raises:
        OvsegError: for what is not there or may not be read or written.
    """
    check_results(config.root)
    mines = mines or config.scores_pairs
    for item in config.scored:
        check_segmentor(item)
        if item.root is not None:
            check_folder(item.root, f"the folder of benchmark {item.benchmark}")
    if config.data.panoptic is not None:
        check_file(config.data.panoptic, "data.panoptic")
    if mines:
        check_device(config.proposals.device)
        check_device(config.pairing.device)
        check_clip(config.pairing.clip)
        find_parser(config.nouns.parser)
        _check_captions(config.images)
        if config.proposals.source == "maskformer":
            check_maskformer(config.proposals.maskformer)
        if config.proposals.labels is not None:
            check_folder(config.proposals.labels, "--labels")
    for phase in (phase for phases in config.phases.values() for phase in phases):
        check_device(phase.device)
        check_clip(phase.clip)


def check_results(root: Path, option: str = "--root") -> None:
    """Refuse a folder of results that cannot be one; makes none.

    Raises:
        OvsegError: a file is in its place or above it, or it may not be written to.
    """
    place = root.absolute()
    try:
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise OvsegError(f"{option} {root}: {place} is not a folder; name another folder")
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise OvsegError(
                f"{option} {root}: {place} may not be read and written to; name another folder"
            )
    except OSError as error:
        raise OvsegError(f"{option} {root}: {error.strerror}; name another folder") from error


def check_weights(folder: Path, option: str = "--out") -> None:
    """Refuse a folder for weights that is neither one of those that ship nor a new one.

    Raises:
        OvsegError: it holds anything, or cannot be written to.
    """
    check_results(folder, option)
    if WEIGHTS.resolve() not in folder.resolve().parents:
        check_new(folder, option=option)


def _check_captions(images: ImagesConfig) -> None:
    """Read captions that are a small file of this machine; the stage finds them read."""
    captions = images.captions
    if type(captions) is not type(Path()) or not captions.is_file():
        return
    if captions.stat().st_size <= SMALL_CAPTIONS:
        from ovseg.data.listing import captioned_images

        captioned_images(images)


def check_segmentor(config: BenchmarkConfig) -> None:
    """Find the models that a configuration segments with.

    Raises:
        OvsegError: for what is not there or cannot be.
    """
    check_device(config.device)
    check_clip(config.clip)
    if config.segmentor == "proposals" and config.proposals == "maskformer":
        check_maskformer(config.maskformer)
    if config.segmentor == "pixels" or config.embedder == "pixel_pooling":
        check_pixels(config.pixels)
    if config.contexts_from is not None:
        check_folder(config.contexts_from, "benchmarks.contexts_from")


def check_device(name: str) -> None:
    """Refuse what is not the name of a device; whether this machine has it, torch knows.

    Raises:
        OvsegError: for such a name.
    """
    if not DEVICE.fullmatch(name):
        raise OvsegError(f"there is no device {name!r}; choose auto, cpu, cuda, cuda:1 or mps")


def check_clip(name: str, what: str = "CLIP") -> None:
    """Refuse the name of a CLIP that is neither a folder of one nor open_clip's.

    Raises:
        OvsegError: for such a name; what is in the folder shows when it is loaded.
    """
    if not name:  # a preset that is given its checkpoint
        return
    folder = clip_folder(name)
    if folder is not None:
        check_file(folder / CLIP_CONFIG, what)
        return
    check_clip_tag(name)
    architecture, _, weights = name.partition("/")
    if Path(weights).is_absolute() or weights.endswith((".pt", ".pth", ".bin", ".safetensors")):
        check_file(Path(weights), f"weights of {architecture}")


def check_checkpoint(folder: str) -> None:
    """Refuse what is not the name of a model that can be exported.

    Raises:
        OvsegError: for such a name.
    """
    try:
        check_clip(folder)
    except OvsegError:
        if not Path(folder).exists():
            raise
        check_folder(Path(folder), "checkpoint")


def check_maskformer(name: str) -> None:
    """Refuse the name of a MaskFormer that is neither a folder nor may be a hub id.

    Raises:
        OvsegError: for such a name; what is in the folder shows when it is loaded.
    """
    if not name or name in TRAINED:
        return
    folder = maskformer_folder(name)
    if (missing := missing_maskformer(name)) is not None:
        raise missing
    if not folder.is_dir() and HUB_ID.fullmatch(name) and not os.path.lexists(folder):
        return
    check_folder(folder, "MaskFormer")
    config = folder / MASKFORMER_CONFIG
    if not os.path.lexists(config):
        raise OvsegError(f"{folder} has no {config.name}; name a folder that holds a MaskFormer")
    check_file(config, "MaskFormer")


def check_pixels(name: str) -> None:
    """Refuse the name of pixel embeddings that is not a folder of them.

    Raises:
        OvsegError: for such a name.
    """
    if name and name not in TRAINED:
        check_file(Path(name) / MASKFORMER_CONFIG, "benchmarks.pixels")
