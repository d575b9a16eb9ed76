"""Published CLIPs: infer the architecture from named tensors, and translate the names.

OpenAI's names are the same as open_clip's. A training checkpoint of open_clip prefixes them with
`module.`, OVSeg's checkpoints with `clip_adapter.clip_model.`; mask prompts are
`visual.mask_embedding` in all of them. `ovseg.models.checkpoints.importing` reads the files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import open_clip
import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.clip.mask_adapted import PROMPT_KEY
from ovseg.models.weights.files import shorten_list
from ovseg.models.weights.settings_files import MOST_LAYERS

OVSEG_PREFIX = "clip_adapter.clip_model."
HEAD_WIDTH = 64  # of every published CLIP; cannot be inferred from shapes
NEEDED = (
    "visual.class_embedding",
    "visual.conv1.weight",
    "visual.positional_embedding",
    "visual.proj",
    "positional_embedding",
    "token_embedding.weight",
    "text_projection",
)


def clip_configuration(state: Mapping[str, Tensor], *, quick_gelu: bool) -> dict[str, Any]:
    """Infer open_clip's configuration of a CLIP from its tensors' shapes.

    Args:
        state: tensors under OpenAI's names, with or without prompts.
        quick_gelu: whether the activation is QuickGELU (x * sigmoid(1.702 x)), as in all models
            published by OpenAI and OVSeg, or else GELU; shapes do not show it.

    Raises:
        OvsegError: if a tensor needed to infer it is missing, or its shape is impossible.
    """
    missing = [name for name in NEEDED if name not in state]
    if missing:
        raise OvsegError(f"this is not a complete CLIP with a ViT: missing {shorten_list(missing)}")
    conv, places = state["visual.conv1.weight"], state["visual.positional_embedding"]
    tokens, proj = state["token_embedding.weight"], state["visual.proj"]
    positions = state["positional_embedding"]
    if conv.ndim != 4 or {places.ndim, tokens.ndim, proj.ndim, positions.ndim} != {2}:
        raise OvsegError("this is not a CLIP with a ViT: its tensors have other ranks")
    if not all(each.numel() for each in (conv, places, tokens, proj, positions)):
        raise OvsegError("this is not a CLIP with a ViT: some of its tensors are empty")
    grid = math.isqrt(places.shape[0] - 1)
    width, text_width = conv.shape[0], tokens.shape[1]
    if grid**2 != places.shape[0] - 1 or width % HEAD_WIDTH or text_width % HEAD_WIDTH:
        raise OvsegError(
            f"this CLIP cannot be inferred from its shapes: {places.shape[0]} positions of width"
            f" {width}, texts of width {text_width}; widths must be multiples of {HEAD_WIDTH}"
        )
    return {
        "embed_dim": proj.shape[1],
        "quick_gelu": quick_gelu,
        "vision_cfg": {
            "image_size": grid * conv.shape[-1],
            "layers": _blocks(state, "visual.transformer"),
            "width": width,
            "patch_size": conv.shape[-1],
        },
        "text_cfg": {
            "context_length": state["positional_embedding"].shape[0],
            "vocab_size": tokens.shape[0],
            "width": text_width,
            "heads": text_width // HEAD_WIDTH,
            "layers": _blocks(state, "transformer"),
        },
    }


def _blocks(state: Mapping[str, Tensor], tower: str) -> int:
    # their count, not the highest number: a name must not decide how much is built
    pattern = re.compile(rf"{re.escape(tower)}\.resblocks\.(\d+)\.")
    blocks = len({m[1] for name in state if (m := pattern.match(name))})
    if blocks > MOST_LAYERS:
        raise OvsegError(f"this CLIP has {blocks} blocks, more than {MOST_LAYERS}")
    return blocks


def stock_architecture(model_cfg: Mapping[str, Any]) -> str | None:
    """Return open_clip's name for a configuration, or None."""
    comparable = _comparable(model_cfg)
    for name in open_clip.list_models():
        if _comparable(open_clip.get_model_config(name) or {}) == comparable:
            return str(name)
    return None


def _comparable(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without defaults and vocabulary locations."""
    text = {k: v for k, v in model_cfg.get("text_cfg", {}).items() if k != "tokenizer_kwargs"}
    rest = {k: v for k, v in model_cfg.items() if k not in ("text_cfg", "quick_gelu")}
    return {**rest, "text_cfg": text, "quick_gelu": bool(model_cfg.get("quick_gelu", False))}


def fp16_rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round a training checkpoint as the official loader does, on any device.

    The loader copies the file into a half-precision model before converting back to float32. The
    weights and biases of attention, linear layers and the patch convolution and both projections
    are rounded to float16; layer norms, embeddings, mask prompts and the logit scale are not.

    Args:
        state: float tensors under OpenAI's names.
    """
    return {
        name: tensor.half().to(tensor.dtype) if _is_rounded(name) else tensor
        for name, tensor in state.items()
    }


def _is_rounded(name: str) -> bool:
    if name in ("text_projection", "visual.proj", "visual.conv1.weight"):
        return True
    return re.search(r"\.resblocks\.\d+\.(attn|mlp)\.", name) is not None


def prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with a prefix on their names."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def split_prompts(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
    """Split tensors from their mask prompts, `(depth, patches, width)` or None."""
    towers = {name: tensor for name, tensor in state.items() if name != PROMPT_KEY}
    return towers, state.get(PROMPT_KEY)


def buffer_of(statistics: Iterable[float]) -> Tensor:
    """Convert a mean or deviation on the 0..1 scale to OVSeg's `(1, 3, 1, 1)`, times 255."""
    return torch.tensor(list(statistics), dtype=torch.float32).reshape(1, 3, 1, 1) * 255.0
