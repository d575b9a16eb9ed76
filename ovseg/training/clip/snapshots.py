"""Snapshots of a training: its parameters after some of its steps, for learning curves.

A snapshot holds only the trained parameters and is stored in the checkpoint's folder, as
`snapshots/step-000012.safetensors`; the rest of the model is in the checkpoint.
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
"""Name of the subfolder of a checkpoint."""


def snapshot_steps(total_steps: int, count: int) -> list[int]:
    """Return the step counts after which a snapshot is kept, ascending.

    Args:
        total_steps: number of training steps.
        count: number of snapshots, at most one per step; they are spread evenly and include the
            last step. 0 keeps none.
    """
    return sorted({math.ceil(total_steps * n / count) for n in range(1, count + 1)})


def snapshot_path(folder: Path, step: int) -> Path:
    """Return the path of the snapshot after `step` steps in a folder of snapshots."""
    return folder / f"step-{step:06d}.safetensors"


def save_snapshot(folder: Path, step: int, parameters: Mapping[str, nn.Parameter]) -> None:
    """Write the trained parameters after `step` steps, atomically.

    Args:
        folder: folder of the snapshots, created if missing.
        step: number of completed optimizer steps.
        parameters: the trained ones by name.
    """
    tensors = {name: p.detach().cpu().contiguous() for name, p in parameters.items()}
    with published(snapshot_path(folder, step)) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def copy_snapshots(folder: Path, checkpoint: Path, steps: list[int]) -> None:
    """Copy snapshots into a checkpoint's folder; the originals stay until the stage is done."""
    for step in steps:
        target = snapshot_path(checkpoint / SNAPSHOTS, step)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(snapshot_path(folder, step), target)


def find_snapshots(checkpoint: Path) -> dict[int, Path]:
    """Return the snapshots in a checkpoint's folder by their number of steps, ascending."""
    paths = sorted((checkpoint / SNAPSHOTS).glob("step-*.safetensors"))
    return {int(path.stem.removeprefix("step-")): path for path in paths}


def restore_snapshot(model: nn.Module, path: Path) -> None:
    """Load a snapshot's parameters into a model of the same training.

    Args:
        model: changed in place.
        path: path of the snapshot.

    Raises:
        OvsegError: if the snapshot cannot be read, or belongs to another model.
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
        raise OvsegError(f"{path} is not a snapshot of this model: {error}") from error
