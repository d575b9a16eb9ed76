"""CLIP as published: which architecture a set of named tensors is, and how it is named elsewhere.

OpenAI's names are open_clip's own. A training checkpoint of open_clip puts `module.` before them,
OVSeg's checkpoints `clip_adapter.clip_model.`; mask prompts are `visual.mask_embedding` in all of
them. `ovseg.models.checkpoints.importing` reads the files.
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
from ovseg.models.weights.files import listed
from ovseg.models.weights.settings_files import MOST_LAYERS

OVSEG_PREFIX = "clip_adapter.clip_model."
HEAD_WIDTH = 64  # of every published CLIP; the shapes do not tell it
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
    """open_clip's configuration of a CLIP, inferred from its tensors' shapes.

    Args:
        state: tensors under OpenAI's names, prompts or not.
        quick_gelu: the activation, which shapes do not tell: QuickGELU (x * sigmoid(1.702 x)) as
            in all that OpenAI and OVSeg published, else GELU.

    Raises:
        OvsegError: a tensor that tells the architecture is missing, or its shape is impossible.
    """
    missing = [name for name in NEEDED if name not in state]
    if missing:
        raise OvsegError(f"this is no whole CLIP with a ViT: it lacks {listed(missing)}")
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
            f"this CLIP cannot be told from its shapes: {places.shape[0]} positions of a width of"
            f" {width}, texts of {text_width}; widths are multiples of {HEAD_WIDTH}"
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
    # how many there are, not the highest number: a name must not decide how much is built
    pattern = re.compile(rf"{re.escape(tower)}\.resblocks\.(\d+)\.")
    blocks = len({m[1] for name in state if (m := pattern.match(name))})
    if blocks > MOST_LAYERS:
        raise OvsegError(f"this CLIP has {blocks} blocks, no model has more than {MOST_LAYERS}")
    return blocks


def stock_architecture(model_cfg: Mapping[str, Any]) -> str | None:
    """The name open_clip has for a configuration; None where it has none."""
    wanted = _comparable(model_cfg)
    for name in open_clip.list_models():
        if _comparable(open_clip.get_model_config(name) or {}) == wanted:
            return str(name)
    return None


def _comparable(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is a default anyway, or says where a vocabulary lies."""
    text = {k: v for k, v in model_cfg.get("text_cfg", {}).items() if k != "tokenizer_kwargs"}
    rest = {k: v for k, v in model_cfg.items() if k not in ("text_cfg", "quick_gelu")}
    return {**rest, "text_cfg": text, "quick_gelu": bool(model_cfg.get("quick_gelu", False))}


def fp16_rounded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The numbers that the official loader makes of a training checkpoint, on any device.

    It copies the file into a half-precision model before it goes back to float32, so that weights
    and biases of attention, linear layers and the patch convolution and both projections are
    rounded to float16; layer norms, embeddings, mask prompts and the logit scale are not.

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
    """The same tensors with something before their names."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def split_prompts(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
    """The tensors without mask prompts, and the `(depth, patches, width)` prompts if any."""
    towers = {name: tensor for name, tensor in state.items() if name != PROMPT_KEY}
    return towers, state.get(PROMPT_KEY)


def buffer_of(statistics: Iterable[float]) -> Tensor:
    """A mean or deviation on the 0..1 scale as OVSeg stores it: `(1, 3, 1, 1)`, times 255."""
    return torch.tensor(list(statistics), dtype=torch.float32).reshape(1, 3, 1, 1) * 255.0
