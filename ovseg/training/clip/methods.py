"""What a phase of training trains: `ovseg.config.registry.METHODS`, chosen by `arms.trains`.

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

from ovseg.config.registry import METHODS, chosen
from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.context_vectors import ContextVectors
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.pixel_prompts import PixelPrompts
from ovseg.training.clip.crops import seeded_generator
from ovseg.training.loop import parameter_groups

PROMPT_STD = 0.02

_UNDECAYED = ("bn", "ln", "bias", "logit_scale")
_TOKENS = "mask_prompts"
_PIXELS = "pixel_prompts."
_VISUAL = "visual_prompts"
_TEXTS = "text_prompts."
_PROMPTS = (_TOKENS, _PIXELS, _VISUAL, _TEXTS)
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


def draw_pixel_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP pixel prompts with the settings asked for; those it has with them are kept.

    Raises:
        OvsegError: a background is to be learned that starts from 0 or 1.
    """
    strength, background = config.pixel_strength, config.pixel_background
    learned = config.learn_background
    if model.pixel_prompts is not None and model.pixel_prompts.has(
        strength=strength, background=background, learn_background=learned
    ):
        return
    model.pixel_prompts = PixelPrompts(
        model.image_size, strength=strength, background=background, learn_background=learned
    ).to(model.logit_scale.device)


def draw_mask_and_pixel_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Both, each as by itself."""
    draw_mask_prompts(model, config, nouns)
    draw_pixel_prompts(model, config, nouns)


def draw_visual_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP visual prompts of the size asked for; those it has of that size are kept.

    They are drawn from N(0, 0.02) by the configured seed. The depth is cut to the blocks there are.
    """
    depth = min(config.visual_depth, len(model.clip.visual.transformer.resblocks))
    found = model.visual_prompts
    if found is not None and found.shape[:2] == (depth, config.visual_tokens):
        return
    model.draw_visual_prompts(depth, config.visual_tokens)
    assert model.visual_prompts is not None
    drawn = torch.empty(model.visual_prompts.shape)
    generator = seeded_generator(config.seed, "visual prompts")
    nn.init.normal_(drawn, std=PROMPT_STD, generator=generator)
    with torch.no_grad():
        model.visual_prompts.copy_(drawn)


def _context_vectors(model: MaskAdaptedCLIP, template: str) -> ContextVectors:
    """Context vectors that begin as a template; those the CLIP has of it are kept."""
    vectors = model.text_prompts
    if not isinstance(vectors, ContextVectors) or vectors.template != template:
        vectors = ContextVectors(model, template)
    model.text_prompts = vectors
    return vectors


def begin_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP context vectors that all nouns share; those it has of the template are kept.

    Raises:
        OvsegError: the CLIP or the template takes none.
    """
    _context_vectors(model, config.template).share()


def begin_class_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """The same for each noun of its own: those it has are kept, others begin as the shared ones."""
    _context_vectors(model, config.template).specialise(nouns)


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

    @property
    def prompts_regions(self) -> bool:
        """Whether it trains prompts of the image tower, in which mask tokens take no part."""
        return any(name in (_TOKENS, _PIXELS, _VISUAL) for name in self.parameters)


IMAGE_ENCODER = Method(parameters=(_TOWER,))
MASK_PROMPTS = Method(parameters=(_TOKENS,), prepare=draw_mask_prompts)
JOINT = Method(parameters=(_TOWER, _TOKENS), prepare=draw_mask_prompts)
PIXEL_PROMPTS = Method(parameters=(_PIXELS,), prepare=draw_pixel_prompts)
MASK_AND_PIXEL_PROMPTS = Method(parameters=(_TOKENS, _PIXELS), prepare=draw_mask_and_pixel_prompts)
JOINT_PIXEL_PROMPTS = Method(parameters=(_TOWER, _PIXELS), prepare=draw_pixel_prompts)
JOINT_MASK_AND_PIXEL_PROMPTS = Method(
    parameters=(_TOWER, _TOKENS, _PIXELS), prepare=draw_mask_and_pixel_prompts
)
VISUAL_PROMPTS = Method(parameters=(_VISUAL,), prepare=draw_visual_prompts)
TEXT_PROMPTS = Method(
    parameters=(_TEXTS + "shared",), prepare=begin_text_prompts, trains_texts=True
)
CLASS_TEXT_PROMPTS = Method(
    parameters=(_TEXTS + "specific",),
    prepare=begin_class_text_prompts,
    trains_texts=True,
)


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


def phase_groups(
    parameters: dict[str, nn.Parameter],
    *,
    weight_decay: float,
    prompt_weight_decay: float,
    prompt_rate: float = 1.0,
) -> list[dict[str, Any]]:
    """Group the parameters of a phase as the official implementation does.

    Vectors, norms, biases and the temperature are not decayed; matrices are, the positional
    embedding and the projection among them; prompts have a decay of their own, except for the
    learned background, a single number.

    Args:
        parameters: trained parameters by name.
        weight_decay: of the matrices.
        prompt_weight_decay: of the prompts.
        prompt_rate: learning rate of the prompts, as a multiple of that of all else.

    Returns:
        Groups of `parameter_groups`, whose rates are multiples of the learning rate.
    """

    def decay(name: str, parameter: nn.Parameter) -> float:
        if parameter.ndim < 2 or any(part in name for part in _UNDECAYED):
            return 0.0
        return prompt_weight_decay if name.startswith(_PROMPTS) else weight_decay

    return parameter_groups(
        parameters,
        rate=lambda name: prompt_rate if name.startswith(_PROMPTS) else 1.0,
        decay=decay,
    )
