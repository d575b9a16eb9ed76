"""The resumable state of a training: one safetensors file, replaced atomically, never a pickle.

It holds the trained parameters, the optimiser's moments and the log so far; who made it and how
far it got stand in the file's own metadata, so that tensors and numbers cannot fall apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ovseg.storage import discard, publish, temporary_name

LogRow = tuple[int, int, float, float, float]
"""step, epoch, loss, learning rate, logit scale: a row of `schema.TRAINING_LOG`."""

STATE_FILE = "latest.safetensors"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What a state file says beside the tensors it has put back."""

    step: int
    """Optimiser steps that are done."""
    log: list[LogRow]


def save_state(
    folder: Path,
    *,
    identity: str,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    log: list[LogRow],
) -> None:
    """Write the state after `step` steps over the one before.

    Args:
        folder: made if absent.
        identity: digest of all the training depends on; a state of another is not resumed.
        step: optimiser steps that are done.
        parameters: the trained ones by name.
        optimizer: of exactly these parameters, with tensors as its only state.
        log: a row for each step.
    """
    tensors: dict[str, Tensor] = {"log": torch.tensor(log, dtype=torch.float64).reshape(-1, 5)}
    for name, parameter in parameters.items():
        tensors[f"parameter/{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(folder / STATE_FILE)
    metadata = {"state": json.dumps({"identity": identity, "step": step})}
    try:
        save_file(tensors, temporary, metadata=metadata)
        publish(temporary, folder / STATE_FILE)
    finally:
        discard(temporary)


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
            is of no use: only the steps before it could write it again.

    Returns:
        Where to go on, or None (and nothing is touched) where there is no state, or a damaged
        one, or one of another training.
    """
    try:
        with safe_open(folder / STATE_FILE, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("state", "{}"))
            if header.get("identity") != identity:
                return None
            if not all(path.is_file() for done, path in behind.items() if done <= header["step"]):
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
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
    log = [
        (int(step), int(epoch), loss, rate, scale)
        for step, epoch, loss, rate, scale in tensors["log"].tolist()
    ]
    return Resumed(step=int(header["step"]), log=log)
