"""What a phase of training trains: `METHODS` says which ways there are, `arms.trains` chooses.

A way of adapting CLIP is the names of the parameters it trains, and what it does to a loaded CLIP
that lacks them. The text tower is frozen always (OVSeg, CVPR 2023, section 3.2); what learns on
the text side is context vectors in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ovseg.config import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.learned_prompts import ContextVectors
from ovseg.models.mask_prompts import MaskAdaptedCLIP
from ovseg.registry import chosen
from ovseg.training.crops import seeded_generator

PROMPT_STD = 0.02

_UNDECAYED = ("bn", "ln", "bias", "logit_scale")
_PROMPTS = "mask_prompts"
_TEXT_PROMPTS = "text_prompts."
_TOWER = "clip.visual."
_SCALE = "clip.logit_scale"


def draw_mask_prompts(model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]) -> None:
    """Give a CLIP mask prompts of the depth asked for; those it has of that depth are kept.

    They are drawn from N(0, 0.02) by the configured seed.

    Raises:
        OvsegError: the CLIP has too few blocks for the prompts.
    """
    if model.prompt_depth == config.prompt_depth:
        return
    model.draw_prompts(config.prompt_depth, init="zeros")
    assert model.mask_prompts is not None
    drawn = torch.empty(model.mask_prompts.shape)
    nn.init.normal_(drawn, std=PROMPT_STD, generator=seeded_generator(config.seed, "mask prompts"))
    with torch.no_grad():
        model.mask_prompts.copy_(drawn)


def begin_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> ContextVectors:
    """Give a CLIP context vectors that begin as its template; those it has of it are kept.

    Raises:
        OvsegError: the CLIP or the template takes none.
    """
    vectors = model.text_prompts
    if not isinstance(vectors, ContextVectors) or vectors.template != config.template:
        vectors = ContextVectors(model, config.template)
    vectors.share()
    model.text_prompts = vectors
    return vectors


def begin_class_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """The same for each noun of its own: they begin as the shared ones, trained before or not."""
    begin_text_prompts(model, config, nouns).specialise(nouns)


def _as_it_is(model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]) -> None:
    """For a method that trains what every CLIP has."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of adapting CLIP to masked regions.

    Attributes:
        parameters: the beginnings of the names, as in `MaskAdaptedCLIP.named_parameters`, of what
            it trains; beside them the temperature, where the configuration says so.
        prepare: gives a loaded CLIP what it trains, where it is not there yet; it is told the
            nouns of the training set.
        trains_texts: texts change while it trains, so they are embedded anew every step.
    """

    parameters: tuple[str, ...]
    prepare: Callable[[MaskAdaptedCLIP, FinetuneConfig, Sequence[str]], object] = _as_it_is
    trains_texts: bool = False


METHODS: dict[str, Method] = {
    "image_encoder": Method(parameters=(_TOWER,)),
    "mask_prompts": Method(parameters=(_PROMPTS,), prepare=draw_mask_prompts),
    "joint": Method(parameters=(_TOWER, _PROMPTS), prepare=draw_mask_prompts),
    "text_prompts": Method(
        parameters=(_TEXT_PROMPTS + "shared",), prepare=begin_text_prompts, trains_texts=True
    ),
    "class_text_prompts": Method(
        parameters=(_TEXT_PROMPTS + "specific",),
        prepare=begin_class_text_prompts,
        trains_texts=True,
    ),
}
"""By the value of `trains`."""


def method(trains: str) -> Method:
    """The method of that name.

    Raises:
        OvsegError: if there is none.
    """
    return chosen(METHODS, trains, setting="arms.trains")


def freeze_except(
    model: MaskAdaptedCLIP, trains: str, *, train_logit_scale: bool
) -> dict[str, nn.Parameter]:
    """Let gradients reach what a phase trains and nothing else.

    Args:
        model: the CLIP, prepared by the method; `requires_grad` of all its parameters is set.
        trains: a name in `METHODS`.
        train_logit_scale: whether the temperature is trained as well, as it is in the official
            implementation in every phase.

    Returns:
        The trained parameters by name, in the model's order.

    Raises:
        OvsegError: the model lacks what is to be trained.
    """
    beginnings = method(trains).parameters
    named = dict(model.named_parameters())
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in named):
            raise OvsegError(f"the CLIP has no {beginning!r} to train for {trains!r}: prepare it")
    parameters = {}
    for name, parameter in named.items():
        trained = name.startswith(beginnings) or (name == _SCALE and train_logit_scale)
        parameter.requires_grad_(trained)
        if trained:
            parameters[name] = parameter
    return parameters


def parameter_groups(
    parameters: dict[str, nn.Parameter], *, weight_decay: float, prompt_weight_decay: float
) -> list[dict[str, Any]]:
    """Optimiser groups as in the official implementation.

    Vectors, norms, biases and the temperature are not decayed; matrices are, the positional
    embedding and the projection among them; prompts have a decay of their own.

    Args:
        parameters: trained parameters by name.
        weight_decay: of the matrices.
        prompt_weight_decay: of mask prompts and of learned text prompts.

    Returns:
        Groups for a torch optimiser; empty ones are left out.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if name == _PROMPTS or name.startswith(_TEXT_PROMPTS):
            decay = prompt_weight_decay
        elif parameter.ndim < 2 or any(part in name for part in _UNDECAYED):
            decay = 0.0
        else:
            decay = weight_decay
        groups.setdefault(decay, []).append(parameter)
    return [{"params": group, "weight_decay": decay} for decay, group in groups.items()]
