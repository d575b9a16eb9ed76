"""Checks that the folders, files and models of a request exist, before anything is loaded.

A wrong path is rejected at once, not after half a minute of imports. These checks cover existence
and permissions; the contents of a folder are checked when it is read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import pair_sources
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
"""Largest captions file, in bytes, that is read in advance; larger ones take too long."""


def check_available(config: RunConfig, *, mines: bool) -> None:
    """Check the inputs of a run and the folder it writes to.

    Args:
        config: of the run.
        mines: whether the run needs mined pairs, and so the models of mining and labels.

    Raises:
        OvsegError: for what does not exist, or cannot be read or written.
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
        for source in pair_sources(config):
            proposals = config.of_source(source).proposals
            if proposals.source == "maskformer":
                check_maskformer(proposals.maskformer)
        if config.proposals.labels is not None:
            check_folder(config.proposals.labels, "--labels")
    for phase in (phase for phases in config.phases.values() for phase in phases):
        check_device(phase.device)
        check_clip(phase.clip)


def check_results(root: Path, option: str = "--root") -> None:
    """Reject a path that cannot be a folder of results; creates nothing.

    Raises:
        OvsegError: if a file is at the path or above it, or the folder is not writable.
    """
    place = root.absolute()
    try:
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise OvsegError(f"{option} {root}: {place} is not a folder; name another folder")
        if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
            raise OvsegError(
                f"{option} {root}: {place} is not readable and writable; name another folder"
            )
    except OSError as error:
        raise OvsegError(f"{option} {root}: {error.strerror}; name another folder") from error


def check_weights(folder: Path, option: str = "--out") -> None:
    """Reject a folder for weights that is neither a shipped one nor new.

    Raises:
        OvsegError: if it is not empty or not writable.
    """
    check_results(folder, option)
    if WEIGHTS.resolve() not in folder.resolve().parents:
        check_new(folder, option=option)


def _check_captions(images: ImagesConfig) -> None:
    """Read captions of a small local file in advance; the stage reuses them."""
    captions = images.captions
    if type(captions) is not type(Path()) or not captions.is_file():
        return
    if captions.stat().st_size <= SMALL_CAPTIONS:
        from ovseg.data.listing import captioned_images

        captioned_images(images)


def check_segmentor(config: BenchmarkConfig) -> None:
    """Check the models that a configuration segments with.

    Raises:
        OvsegError: for what does not exist or cannot.
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
    """Reject an invalid name of a device; torch checks whether this machine has it.

    Raises:
        OvsegError: for such a name.
    """
    if not DEVICE.fullmatch(name):
        raise OvsegError(f"unknown device {name!r}; choose auto, cpu, cuda, cuda:1 or mps")


def check_clip(name: str, what: str = "CLIP") -> None:
    """Reject a CLIP that is neither a folder of one nor a name of open_clip.

    Raises:
        OvsegError: for such a name; the folder's contents are checked on loading.
    """
    if not name:  # a preset whose checkpoint comes with the command
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
    """Reject the name of a model that cannot be exported.

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
    """Reject a MaskFormer that is neither a folder nor a possible hub id.

    Raises:
        OvsegError: for such a name; the folder's contents are checked on loading.
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
    """Reject pixel embeddings that are not a folder of them.

    Raises:
        OvsegError: for such a name.
    """
    if name and name not in TRAINED:
        check_file(Path(name) / MASKFORMER_CONFIG, "benchmarks.pixels")
