"""The resumable state of a training: one safetensors file, replaced atomically, never a pickle.

It holds the trained parameters, the optimizer's moments and the log so far. The training's identity
and progress are in the file's own metadata, so they cannot be separated from the tensors. So is a
sha256 of everything: an altered state is never resumed.
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
    """The contents of a state file other than its restored tensors."""

    step: int
    """Number of completed optimizer steps."""
    log: list[LogRow]


def keeps_state(done: int, *, total: int, every: int) -> bool:
    """Whether a state is kept after `done` steps.

    One is kept after the last step too, because finishing the stage may also be interrupted.
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
    """Write the state after `step` steps over the previous one.

    Args:
        folder: created if missing.
        identity: digest of everything the training depends on; other states are not resumed.
        step: number of completed optimizer steps.
        parameters: trained parameters by name.
        optimizer: optimizer of exactly these parameters, with tensors as its only state.
        log: a row for each step.
        behind: as in `load_state`; the state records the contents of those that exist.

    Raises:
        OvsegError: if it cannot be written; the previous state stays.
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
    """Return the sha256 of a state's header and its tensors' names, types, shapes and bytes."""
    parts = [
        [name, str(tensor.dtype), list(tensor.shape), _bytes_sha256(tensor)]
        for name, tensor in sorted(tensors.items())
    ]
    fields = {key: value for key, value in header.items() if key != "sha256"}
    return digest_json([fields, parts])


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
    """Load a state into the parameters and the optimizer.

    Args:
        folder: folder of the state.
        identity: digest of everything the training depends on.
        parameters: trained parameters by name, overwritten.
        optimizer: optimizer of exactly these parameters.
        behind: files by the number of steps after which they exist. A state later than a missing or
            altered one is useless: only the steps before it could write the file again.

    Returns:
        Where to resume, or None (and nothing is changed) if there is no state, it belongs to
        another training, or it was damaged or altered, which is logged.
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
                # AdamW counts steps on the CPU; its moments are on the parameter's device
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
    log.warning("%s cannot be resumed (%s): training starts from its first step", path, reason)
