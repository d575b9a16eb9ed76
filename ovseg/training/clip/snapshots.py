"""Snapshots of a training: what it had learned after some of its steps, for learning curves.

A snapshot holds the trained parameters alone and lies in the checkpoint's folder, as
`snapshots/step-000012.safetensors`; the rest of the model is the checkpoint's own.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ovseg.errors import OvsegError
from ovseg.files.publish import published

SNAPSHOTS = "snapshots"
"""Name of the folder in a checkpoint's."""


def snapshot_steps(total_steps: int, count: int) -> list[int]:
    """The numbers of steps after which a snapshot is kept, ascending.

    Args:
        total_steps: of the training.
        count: how many snapshots; they are spread evenly and the last step is one of them. As many
            as there are steps at most, none for 0.
    """
    return sorted({math.ceil(total_steps * n / count) for n in range(1, count + 1)})


def snapshot_path(folder: Path, step: int) -> Path:
    """Where the snapshot after `step` steps lies in a folder of snapshots."""
    return folder / f"step-{step:06d}.safetensors"


def save_snapshot(folder: Path, step: int, parameters: Mapping[str, nn.Parameter]) -> None:
    """Write the trained parameters as they are after `step` steps, atomically.

    Args:
        folder: of the snapshots, made if absent.
        step: optimiser steps that are done.
        parameters: the trained ones by name.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in parameters.items()}
    with published(snapshot_path(folder, step)) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def copy_snapshots(folder: Path, checkpoint: Path, steps: list[int]) -> None:
    """Put snapshots into a checkpoint's folder; the originals stay until the stage is whole."""
    for step in steps:
        target = snapshot_path(checkpoint / SNAPSHOTS, step)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(snapshot_path(folder, step), target)


def find_snapshots(checkpoint: Path) -> dict[int, Path]:
    """The snapshots in a checkpoint's folder by their number of steps, ascending."""
    found = sorted((checkpoint / SNAPSHOTS).glob("step-*.safetensors"))
    return {int(path.stem.removeprefix("step-")): path for path in found}


def restore_snapshot(model: nn.Module, path: Path) -> None:
    """Put a snapshot's parameters into a model of the same training.

    Args:
        model: changed in place.
        path: of the snapshot.

    Raises:
        OvsegError: it cannot be read, or is of another model.
    """
    own = dict(model.named_parameters())
    try:
        tensors = load_file(path)
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor)
    except (OSError, SafetensorError) as error:
        raise OvsegError(f"cannot read the snapshot {path}: {error}") from error
    except (KeyError, RuntimeError) as error:
        raise OvsegError(f"{path} is no snapshot of this model: {error}") from error
