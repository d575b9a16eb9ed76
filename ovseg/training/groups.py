"""Which parameters of a CLIP a phase trains, and with how much weight decay."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from ovseg.errors import OvsegError
from ovseg.models.mask_prompts import MaskAdaptedCLIP

Trains = Literal["image_encoder", "mask_prompts", "joint"]

_UNDECAYED = ("bn", "ln", "bias", "logit_scale")
_PROMPTS = "mask_prompts"
_SCALE = "clip.logit_scale"


def freeze_except(
    model: MaskAdaptedCLIP, trains: Trains, *, train_logit_scale: bool
) -> dict[str, nn.Parameter]:
    """Let gradients reach what a phase trains and nothing else.

    Args:
        model: the CLIP; `requires_grad` of all its parameters is set.
        trains: `image_encoder` (the visual tower), `mask_prompts` (these alone), or `joint`. The
            text tower is frozen always (OVSeg, CVPR 2023, section 3.2).
        train_logit_scale: whether the temperature is trained as well, as it is in the official
            implementation in every phase.

    Returns:
        The trained parameters by name, in the model's order.

    Raises:
        OvsegError: prompts are to be trained and the model has none.
    """
    if trains != "image_encoder" and model.mask_prompts is None:
        raise OvsegError(f"the CLIP has no mask prompts to train for {trains!r}: set prompt_depth")
    chosen = {}
    for name, parameter in model.named_parameters():
        trained = (
            (name.startswith("clip.visual.") and trains != "mask_prompts")
            or (name == _PROMPTS and trains != "image_encoder")
            or (name == _SCALE and train_logit_scale)
        )
        parameter.requires_grad_(trained)
        if trained:
            chosen[name] = parameter
    return chosen


def parameter_groups(
    parameters: dict[str, nn.Parameter], *, weight_decay: float, prompt_weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups as in the official implementation.

    Vectors, norms, biases and the temperature are not decayed; matrices are, the positional
    embedding and the projection among them; mask prompts have a decay of their own.

    Args:
        parameters: trained parameters by name.
        weight_decay: of the matrices.
        prompt_weight_decay: of the mask prompts.

    Returns:
        Groups for a torch optimiser; empty ones are left out.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if name == _PROMPTS:
            decay = prompt_weight_decay
        elif parameter.ndim < 2 or any(part in name for part in _UNDECAYED):
            decay = 0.0
        else:
            decay = weight_decay
        groups.setdefault(decay, []).append(parameter)
    return [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
