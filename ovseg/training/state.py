"""The resumable state of a training: one safetensors file, replaced atomically, never a pickle.

It holds the trained parameters, the optimiser's moments and the log so far; who made it and how
far it got stand in the file's own metadata, so that tensors and numbers cannot fall apart. A sha256
of all of it stands there too: a state that was altered is never gone on from.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg.files.digests import digest_json, file_sha256
from ovseg.files.publish import published

log = logging.getLogger(__name__)

LogRow = tuple[int, int, float, float, float]
"""step, epoch, loss, learning rate, logit scale: a row of `schema.TRAINING_LOG`."""

STATE_FILE = "latest.safetensors"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What a state file says beside the tensors it has put back."""

    step: int
    """Optimiser steps that are done."""
    log: list[LogRow]


def keeps_state(done: int, *, total: int, every: int) -> bool:
    """Whether a state is kept after `done` steps.

    One is kept after the last step, too: what comes between it and the finished stage may be
    interrupted as well.
    """
    return every > 0 and (done % every == 0 or done == total)


def save_state(
    folder: Path,
    *,
    identity: str,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    log: list[LogRow],
    behind: Mapping[int, Path] | None = None,
) -> None:
    """Write the state after `step` steps over the one before.

    Args:
        folder: made if absent.
        identity: digest of all the training depends on; a state of another is not resumed.
        step: optimiser steps that are done.
        parameters: the trained ones by name.
        optimizer: of exactly these parameters, with tensors as its only state.
        log: a row for each step.
        behind: as in `load_state`; the state notes what is in those that are there.

    Raises:
        OvsegError: it cannot be written; the state before stays.
    """
    tensors: dict[str, Tensor] = {"log": torch.tensor(log, dtype=torch.float64).reshape(-1, 5)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    header = {"identity": identity, "step": step, "behind": _contents(behind or {}, step)}
    header["sha256"] = _digest(header, tensors)
    with published(folder / STATE_FILE) as temporary:
        save_file(tensors, temporary, metadata={"state": json.dumps(header)})


def _contents(behind: Mapping[int, Path], step: int) -> dict[str, str]:
    return {str(done): file_sha256(path) for done, path in behind.items() if done <= step}


def _digest(header: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over all that a state says, and the names, types, shapes and bytes of its tensors."""
    parts = [
        [name, str(tensor.dtype), list(tensor.shape), _bytes_sha256(tensor)]
        for name, tensor in sorted(tensors.items())
    ]
    said = {key: value for key, value in header.items() if key != "sha256"}
    return digest_json([said, parts])


def _bytes_sha256(tensor: Tensor) -> str:
    flat = tensor.contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data if flat.numel() else b"").hexdigest()


def load_state(
    folder: Path,
    *,
    identity: str,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    behind: Mapping[int, Path],
) -> Resumed | None:
    """Put a state back into the parameters and the optimiser.

    Args:
        folder: of the state.
        identity: digest of all the training depends on.
        parameters: the trained ones by name, overwritten.
        optimizer: of exactly these parameters.
        behind: files that exist once so many steps are done. A state beyond one that is missing
            or altered is of no use: only the steps before it could write it again.

    Returns:
        Where to go on, or None (and nothing is touched) where there is no state, or one of another
        training, or, which is logged, one that was damaged or altered.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("state", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header.get("sha256") != _digest(header, tensors):
            _tell_unusable(path, "it was altered since it was written")
            return None
        if header["identity"] != identity:
            return None
        if header["behind"] != _contents(behind, header["step"]):
            _tell_unusable(path, "a snapshot before it was altered")
            return None
    except FileNotFoundError:
        _tell_unusable(path, "a snapshot before it is missing")
        return None
    except (OSError, SafetensorError, ValueError, AttributeError, RecursionError) as error:
        _tell_unusable(path, " ".join(str(error).split()))
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            optimizer.state[parameter] = {
                # AdamW counts steps on the CPU, its moments lie where the parameter does
                key: value if key == "step" else value.to(parameter.device)
                for key, value in (
                    (kind, tensors[f"{kind}/{name}"])
                    for kind in ("step", "exp_avg", "exp_avg_sq")
                    if f"{kind}/{name}" in tensors
                )
            }
    rows = [
        (int(step), int(epoch), loss, rate, scale)
        for step, epoch, loss, rate, scale in tensors["log"].tolist()
    ]
    return Resumed(step=int(header["step"]), log=rows)


def _tell_unusable(path: Path, reason: str) -> None:
    log.warning("%s cannot be gone on from (%s): training starts from its first step", path, reason)
