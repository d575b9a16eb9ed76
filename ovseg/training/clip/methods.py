"""Training methods: `ovseg.config.registry.METHODS`, chosen by `arms.trains`.

A method names the parameters it trains, and adds them to a loaded CLIP that does not have them. The
text tower is always frozen (OVSeg, CVPR 2023, section 3.2); only the context vectors in front of it
can learn.
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
    """Give a CLIP mask prompts of the configured depth; existing ones of that depth are kept.

    They are drawn from N(0, 0.02) with the configured seed.

    Raises:
        OvsegError: if the CLIP has too few blocks for the prompts.
    """
    if model.prompt_depth == config.prompt_depth:
        return
    model.draw_prompts(config.prompt_depth, init="zeros")
    assert model.mask_prompts is not None
    prompts = torch.empty(model.mask_prompts.shape)
    nn.init.normal_(
        prompts, std=PROMPT_STD, generator=seeded_generator(config.seed, "mask prompts")
    )
    with torch.no_grad():
        model.mask_prompts.copy_(prompts)


def draw_pixel_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP pixel prompts with the configured settings; existing matching ones are kept.

    Raises:
        OvsegError: if a learned background starts from 0 or 1.
    """
    strength, background = config.pixel_strength, config.pixel_background
    learn_background = config.learn_background
    if model.pixel_prompts is not None and model.pixel_prompts.has(
        strength=strength, background=background, learn_background=learn_background
    ):
        return
    model.pixel_prompts = PixelPrompts(
        model.image_size,
        strength=strength,
        background=background,
        learn_background=learn_background,
    ).to(model.logit_scale.device)


def draw_mask_and_pixel_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP mask prompts and pixel prompts."""
    draw_mask_prompts(model, config, nouns)
    draw_pixel_prompts(model, config, nouns)


def draw_visual_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP visual prompts of the configured size; existing ones of that size are kept.

    They are drawn from N(0, 0.02) with the configured seed. The depth is limited to the number of
    blocks.
    """
    depth = min(config.visual_depth, len(model.clip.visual.transformer.resblocks))
    existing = model.visual_prompts
    if existing is not None and existing.shape[:2] == (depth, config.visual_tokens):
        return
    model.draw_visual_prompts(depth, config.visual_tokens)
    assert model.visual_prompts is not None
    prompts = torch.empty(model.visual_prompts.shape)
    generator = seeded_generator(config.seed, "visual prompts")
    nn.init.normal_(prompts, std=PROMPT_STD, generator=generator)
    with torch.no_grad():
        model.visual_prompts.copy_(prompts)


def _context_vectors(model: MaskAdaptedCLIP, template: str) -> ContextVectors:
    """Return context vectors initialized from a template; the CLIP's existing ones are kept."""
    vectors = model.text_prompts
    if not isinstance(vectors, ContextVectors) or vectors.template != template:
        vectors = ContextVectors(model, template)
    model.text_prompts = vectors
    return vectors


def begin_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give a CLIP context vectors shared by all nouns; existing ones of the template are kept.

    Raises:
        OvsegError: if the CLIP or the template does not support context vectors.
    """
    _context_vectors(model, config.template).share()


def begin_class_text_prompts(
    model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]
) -> None:
    """Give each noun its own context vectors; existing ones are kept, new ones copy the shared."""
    _context_vectors(model, config.template).specialize(nouns)


def _as_it_is(model: MaskAdaptedCLIP, config: FinetuneConfig, nouns: Sequence[str]) -> None:
    """Leave a CLIP unchanged, for a method that trains parameters every CLIP has."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of adapting CLIP to masked regions.

    Attributes:
        parameters: prefixes of the names, as in `MaskAdaptedCLIP.named_parameters`, of the trained
            parameters; the temperature is trained in addition if configured.
        prepare: adds the trained parameters to a loaded CLIP if they are missing; it receives the
            nouns of the training set.
        trains_texts: whether texts change during training, so that each step embeds them again.
    """

    parameters: tuple[str, ...]
    prepare: Callable[[MaskAdaptedCLIP, FinetuneConfig, Sequence[str]], object] = _as_it_is
    trains_texts: bool = False

    @property
    def prompts_regions(self) -> bool:
        """Whether it trains prompts of the image tower, which mask tokens do not use."""
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
    """Return the method of that name.

    Raises:
        OvsegError: if there is no such method.
    """
    return chosen(METHODS, trains, setting="arms.trains")


def freeze_except(
    model: MaskAdaptedCLIP, trains: str, *, train_logit_scale: bool
) -> dict[str, nn.Parameter]:
    """Let gradients reach only the parameters that a phase trains.

    Args:
        model: the CLIP, prepared by the method; `requires_grad` of all its parameters is set.
        trains: a name in `METHODS`.
        train_logit_scale: whether the temperature is trained too, as the official implementation
            does in every phase.

    Returns:
        The trained parameters by name, in the model's order.

    Raises:
        OvsegError: if the model has no parameters of this method.
    """
    prefixes = method(trains).parameters
    all_parameters = dict(model.named_parameters())
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in all_parameters):
            raise OvsegError(f"the CLIP has no {prefix!r} to train for {trains!r}: prepare it")
    parameters = {}
    for name, parameter in all_parameters.items():
        trained = name.startswith(prefixes) or (name == _SCALE and train_logit_scale)
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

    Vectors, norms, biases and the temperature are not decayed; matrices are, including the
    positional embedding and the projection. Prompts have their own decay, except for the learned
    background, which is a single number.

    Args:
        parameters: trained parameters by name.
        weight_decay: decay of the matrices.
        prompt_weight_decay: decay of the prompts.
        prompt_rate: learning rate of the prompts, as a multiple of that of the rest.

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
