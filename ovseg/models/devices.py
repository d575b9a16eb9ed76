"""Devices and precision of models, and the names of models in tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ovseg.errors import OvsegError

if TYPE_CHECKING:
    import torch

    from ovseg.stages.stage import Inputs


def resolve_device(name: str) -> str:
    """Return the configured device.

    Args:
        name: `auto` (the first GPU, else the CPU) or a torch device.

    Raises:
        OvsegError: if this machine has no such device.
    """
    import torch  # imported here because names alone do not need it

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # unknown, or not on this machine
        reason = str(error).splitlines()[0][:120]
        raise OvsegError(f"device {name!r} cannot be used ({reason}); set it to auto") from error
    return name


def autocast(device: str, precision: str) -> torch.autocast:
    """Return a context in which networks compute in bfloat16 if `precision` is `bf16`.

    Args:
        device: a torch device.
        precision: `fp32` or `bf16`.
    """
    import torch

    return torch.autocast(
        torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bf16"
    )


def clip_name(configured: str, inputs: Inputs) -> str:
    """Return the CLIP of a stage: the folder of its input `checkpoint`, else the configured one."""
    return str(inputs["checkpoint"].payload()) if "checkpoint" in inputs else configured


def model_label(name: str, digest: str) -> str:
    """Return a model's name in tables: its name without local folders, and 8 digest digits."""
    prefix, _, tail = name.partition("/")
    if Path(name).exists():
        name = Path(name).name
    elif tail and Path(tail).is_file():
        name = f"{prefix}/{Path(tail).name}"
    return f"{name}@{digest[:8]}"
