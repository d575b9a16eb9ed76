"""A CLIP's configuration as open_clip writes it: what it may say, before a model is made of it.

Only the fields that open_clip has are known, with values of their types and of sizes that models
have. Nothing in it may name weights or code outside the folder: the towers are made empty and take
the folder's weights, and no configuration can ask `transformers` to trust code.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
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
"""Type of every field of `model_cfg` but those of the towers."""
LAYER = {"eps": float, "elementwise_affine": bool, "bias": bool, "approximate": str}
"""Of `norm_kwargs` and `act_kwargs`."""
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
"""Of a model beyond those that its weights hold: 64 MiB of float32."""
TIMM_NAME = re.compile(r"\w[\w.]*")
"""A model of timm's own; a name with a scheme is of a hub or a folder."""


def read_clip_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`model_cfg` and `preprocess_cfg` of a CLIP's folder.

    Raises:
        OvsegError: the file cannot be read, or is not a CLIP's. `check_model_cfg` looks further.
    """
    path = folder / CLIP_CONFIG
    config = read_settings(path)
    model_cfg, preprocess_cfg = config.get("model_cfg"), config.get("preprocess_cfg") or {}
    if not isinstance(model_cfg, dict):
        raise OvsegError(f"{path} holds no model_cfg: restore the file, or name another folder")
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
    """Refuse what is not a CLIP's configuration.

    Args:
        model_cfg: as open_clip has it.
        source: the file, for messages.

    Raises:
        OvsegError: an unknown field, a value of another type, one beyond any model, or one that
            names code, a model of a hub's or other weights.
    """
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
        raise OvsegError(f"{source}: {name[:80]!r} is no model of timm's own: take another CLIP")
    if name := text.get("hf_model_name"):
        try:
            check_transformers(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise OvsegError(
                f"{source}: the text tower {name[:80]!r} cannot be had ({reason}): put it into the"
                " cache of the hub, or take another CLIP"
            ) from error


def empty_towers(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose towers are made without weights of their own, which a CLIP brings."""
    return {
        **model_cfg,
        "vision_cfg": {**model_cfg["vision_cfg"], "timm_model_pretrained": False},
        "text_cfg": {**model_cfg["text_cfg"], "hf_model_pretrained": False},
    }


def check_size(family: Any, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` for a CLIP of more than its weights hold, before it takes memory.

    Args:
        family: class of the model.
        arguments: with which it is made.
        weights: that it is to take.
    """
    for tower in ("vision_cfg", "text_cfg"):
        layers = arguments[tower].get("layers") or 0
        if (sum(layers) if isinstance(layers, list) else layers) > len(weights):
            raise ValueError(f"{layers} layers, where the weights hold {len(weights)} tensors")
    numbers = sum(tensor.numel() for tensor in weights.values())
    with torch.device("meta"):
        wanted = sum(each.numel() for each in family(**copy.deepcopy(arguments)).parameters())
    if wanted > 2 * numbers + SPARE_NUMBERS:  # positions may be of another size
        raise ValueError(f"{wanted} numbers, where the weights hold {numbers}")


def _types(kind: Any) -> dict[str, Any]:
    """Type of every field of a tower, by what it is where it is not given."""
    special = {"act_kwargs": dict, "norm_kwargs": dict, "tokenizer_kwargs": dict}
    optional = {"ls_init_value": float, "timm_drop_path": float} | special
    return {
        field.name: optional.get(field.name, str if field.default is None else type(field.default))
        for field in dataclasses.fields(kind)
    }


def _check(given: object, types: Mapping[str, type], what: str, source: object) -> None:
    if not isinstance(given, Mapping):
        raise OvsegError(f"{source}: {what} is not an object: it is not a CLIP of open_clip")
    for name, value in given.items():
        if name not in types:
            raise OvsegError(
                f"{source}: {what} is not a CLIP that open_clip knows: it has the unknown field"
                f" {str(name)[:60]!r}, which is not read; remove it, or take another CLIP"
            )
        if value is not None and not _fits(value, types[name], several=name in SEVERAL):
            raise OvsegError(
                f"{source}: {what}.{name}={str(value)[:40]!r} is not {types[name].__name__}:"
                " restore the file"
            )


SEVERAL = ("layers", "image_size")
"""A ResNet has its layers by stage, a picture may have two sides."""


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
