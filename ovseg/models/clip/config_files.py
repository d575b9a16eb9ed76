"""Validation of a CLIP's open_clip configuration, before a model is built from it.

Only open_clip's fields are allowed, with values of their types and realistic sizes. Nothing may
refer to weights or code outside the folder: the towers are created empty and load the folder's
weights, and no configuration can make `transformers` trust code.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovseg.config.model_names import CLIP_CONFIG
from ovseg.errors import OvsegError
from ovseg.models.weights.settings_files import check_settings, check_transformers, read_settings

MODEL = {
    "embed_dim": int,
    "vision_cfg": dict,
    "text_cfg": dict,
    "quick_gelu": bool,
    "init_logit_scale": float,
    "init_logit_bias": float,
    "nonscalar_logit_scale": bool,
    "output_dict": bool,
    "custom_text": bool,
}
"""Type of every field of `model_cfg` except the towers'."""
LAYER = {"eps": float, "elementwise_affine": bool, "bias": bool, "approximate": str}
"""Fields of `norm_kwargs` and `act_kwargs`."""
TOKENIZER = {
    "clean": str,
    "strip_sep_token": bool,
    "language": str,
    "tokenizer_mode": str,
    "bpe_path": str,
    "reduction_mask": str,
    "additional_special_tokens": list,
}
SPARE_NUMBERS = 2**24
"""Numbers a model may have beyond those of its weights: 64 MiB of float32."""
TIMM_NAME = re.compile(r"\w[\w.]*")
"""Name of a model in timm; a name with a scheme refers to a hub or a folder."""


def read_clip_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read `model_cfg` and `preprocess_cfg` of a CLIP's folder.

    Raises:
        OvsegError: if the file cannot be read, or is not a CLIP's. `check_model_cfg` checks more.
    """
    path = folder / CLIP_CONFIG
    config = read_settings(path)
    model_cfg, preprocess_cfg = config.get("model_cfg"), config.get("preprocess_cfg") or {}
    if not isinstance(model_cfg, dict):
        raise OvsegError(f"{path} has no model_cfg: restore the file, or name another folder")
    if not isinstance(preprocess_cfg, dict):
        raise OvsegError(f"{path}: preprocess_cfg is not an object: restore the file")
    for name in ("mean", "std"):
        numbers = preprocess_cfg.get(name, [1.0, 1.0, 1.0])
        if (
            not isinstance(numbers, list)
            or len(numbers) != 3
            or not all(_fits(number, float) and abs(number) < 1000 for number in numbers)
            or (name == "std" and min(numbers) <= 0)
        ):
            raise OvsegError(f"{path}: {name} of preprocess_cfg is not three numbers: restore it")
    return model_cfg, preprocess_cfg


def check_model_cfg(model_cfg: Mapping[str, Any], source: object) -> None:
    """Reject a configuration that is not a CLIP's.

    Args:
        model_cfg: open_clip's configuration.
        source: the file, for messages.

    Raises:
        OvsegError: for an unknown field, a value of another type, an unrealistic size, or a
            reference to code, a hub's model or other weights.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    check_settings(model_cfg, source)
    _check(model_cfg, MODEL, "model_cfg", source)
    for name, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        tower = model_cfg.get(name)
        if not isinstance(tower, dict):
            raise OvsegError(f"{source}: model_cfg has no {name}: it is not a CLIP of open_clip")
        _check(tower, _types(kind), name, source)
        for inner in ("act_kwargs", "norm_kwargs"):
            _check(tower.get(inner) or {}, LAYER, f"{name}.{inner}", source)
    if not isinstance(model_cfg.get("embed_dim"), int) or model_cfg["embed_dim"] < 1:
        raise OvsegError(f"{source}: model_cfg has no embed_dim: it is not a CLIP of open_clip")
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    _check(text.get("tokenizer_kwargs") or {}, TOKENIZER, "text_cfg.tokenizer_kwargs", source)
    if (name := vision.get("timm_model_name")) and not TIMM_NAME.fullmatch(name):
        raise OvsegError(
            f"{source}: {name[:80]!r} is not one of timm's own models: use another CLIP"
        )
    if name := text.get("hf_model_name"):
        try:
            check_transformers(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise OvsegError(
                f"{source}: the text tower {name[:80]!r} is not available ({reason}): put it into"
                " the hub's cache, or use another CLIP"
            ) from error


def empty_towers(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose towers are created without their pretrained weights."""
    return {
        **model_cfg,
        "vision_cfg": {**model_cfg["vision_cfg"], "timm_model_pretrained": False},
        "text_cfg": {**model_cfg["text_cfg"], "hf_model_pretrained": False},
    }


def check_size(family: Any, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` for a CLIP much larger than its weights, before it takes memory.

    Args:
        family: class of the model.
        arguments: arguments of the class.
        weights: weights to load.
    """
    for tower in ("vision_cfg", "text_cfg"):
        layers = arguments[tower].get("layers") or 0
        if (sum(layers) if isinstance(layers, list) else layers) > len(weights):
            raise ValueError(f"{layers} layers, but the weights hold {len(weights)} tensors")
    numbers = sum(tensor.numel() for tensor in weights.values())
    with torch.device("meta"):
        size = sum(each.numel() for each in family(**copy.deepcopy(arguments)).parameters())
    if size > 2 * numbers + SPARE_NUMBERS:  # positions may be of another size
        raise ValueError(f"{size} numbers, but the weights hold {numbers}")


def _types(kind: Any) -> dict[str, Any]:
    """Return the type of every field of a tower, by its default."""
    special = {"act_kwargs": dict, "norm_kwargs": dict, "tokenizer_kwargs": dict}
    optional = {"ls_init_value": float, "timm_drop_path": float} | special
    return {
        field.name: optional.get(field.name, str if field.default is None else type(field.default))
        for field in dataclasses.fields(kind)
    }


def _check(fields: object, types: Mapping[str, type], what: str, source: object) -> None:
    if not isinstance(fields, Mapping):
        raise OvsegError(f"{source}: {what} is not an object: it is not a CLIP of open_clip")
    for name, value in fields.items():
        if name not in types:
            raise OvsegError(
                f"{source}: {what} is not a CLIP that open_clip knows: it has the unknown field"
                f" {str(name)[:60]!r}; remove it, or use another CLIP"
            )
        if value is not None and not _fits(value, types[name], several=name in SEVERAL):
            raise OvsegError(
                f"{source}: {what}.{name}={str(value)[:40]!r} is not {types[name].__name__}:"
                " restore the file"
            )


SEVERAL = ("layers", "image_size")
"""A ResNet has layers by stage, an image may have two sides."""


def _fits(value: object, kind: type, *, several: bool = False) -> bool:
    if several and isinstance(value, list):
        return 0 < len(value) <= 8 and all(_fits(item, kind) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind is str:
        return isinstance(value, str) and len(value) <= 1000
    return isinstance(value, kind)
