"""Closed-vocabulary MaskFormers: detectron2 weights and `transformers` folders.

Both become a folder in the format of `transformers` with safetensors, which `load_maskformer`
reads as a class-agnostic proposal network. Swin, ResNet-50 and -101 come from `transformers`; the
deep stem of ResNet-101c is ours (`ovseg.models.maskformer.resnet`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import MaskFormerForInstanceSegmentation

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_names import (
    BATCH_COUNTER,
    EMPTY_WEIGHT,
    UNUSED_NORM,
    shared_names,
    to_our_names,
)
from ovseg.models.checkpoints.maskformer_weights import alike, shared_dimensions
from ovseg.models.maskformer.open_vocabulary import Architecture
from ovseg.models.maskformer.resnet import DeepStemMaskFormer, DeepStemMaskFormerConfig
from ovseg.models.weights.files import check_finite, shorten_list
from ovseg.models.weights.settings_files import check_folder, check_transformers, read_settings

HEAD = "sem_seg_head."
CLASS_HEAD = "sem_seg_head.predictor.class_embed"
PIXEL_ENCODER = "sem_seg_head.pixel_decoder.transformer."
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
STRIDES = (
    "strides are in the 3x3 convolutions, as in all published MaskFormers: a weights file does not"
    " say"
)
"""The assumption made for every ResNet (detectron2's STRIDE_IN_1X1 is False)."""


def write_closed(
    state: Mapping[str, Tensor], folder: Path, *, decoder_heads: int
) -> tuple[dict[str, str], list[str]]:
    """Write detectron2 weights of a closed-vocabulary MaskFormer in the format of `transformers`.

    Args:
        state: tensors by detectron2 name.
        folder: folder to create.
        decoder_heads: attention heads of the transformer decoder, not inferable from shapes.

    Returns:
        The reasons for dropped tensors, and the assumptions made.

    Raises:
        OvsegError: for another backbone or pixel decoder, or missing, unknown or misshaped tensors.
    """
    state = _with_pixel_decoder(state)
    if any(name.startswith(PIXEL_ENCODER) for name in state):
        raise OvsegError(
            "this MaskFormer has a transformer encoder in its pixel decoder (R50 + 6 Enc and the"
            " like), which is not supported: use one without"
        )
    try:
        architecture = Architecture(**shared_dimensions(state), decoder_heads=decoder_heads)
    except KeyError as error:
        raise OvsegError(
            f"this MaskFormer has no {error.args[0]}: the file is incomplete, or its architecture"
            " is not MaskFormer on Swin, ResNet-50, -101 or -101c"
        ) from None
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(f"the MaskFormer's tensors have impossible shapes ({reason})") from None
    names = shared_names(architecture) | {
        f"{CLASS_HEAD}.{kind}": (f"class_predictor.{kind}",) for kind in ("weight", "bias")
    }
    reasons = {name: _left_behind(name) for name in state if name not in names}
    dropped = {name: reason for name, reason in reasons.items() if reason}
    missing = [name for name in names if name not in state]
    extra = [name for name, reason in reasons.items() if not reason]
    if missing or extra:
        raise OvsegError(
            f"this is not the MaskFormer it appears to be, {architecture.backbone}"
            f" {architecture.depths}: missing {shorten_list(missing)},"
            f" unknown {shorten_list(extra)}"
        )
    ours = {_in_transformers(k): v for k, v in to_our_names(state, names).items()}
    network = _network(architecture, classes=len(state[f"{CLASS_HEAD}.bias"]) - 1)
    expected = network.state_dict()
    ours |= {name: tensor for name, tensor in expected.items() if _made(name)}
    wrong = [k for k, v in expected.items() if k not in ours or not alike(ours[k], v)]
    if wrong:
        raise OvsegError(
            f"this MaskFormer's tensors have other shapes or types: {shorten_list(wrong)}"
        )
    network.load_state_dict(ours, strict=True)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(_statistics(state), indent=2) + "\n"
    )
    return dropped, [] if architecture.backbone == "swin" else [STRIDES]


def _with_pixel_decoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move the pixel decoder out of the head, where files of the model zoo have it."""
    parts = (f"{HEAD}predictor.", f"{HEAD}pixel_decoder.")
    return {
        name.replace(HEAD, parts[1], 1)
        if name.startswith(HEAD) and not name.startswith(parts)
        else name: tensor
        for name, tensor in state.items()
    }


def _network(architecture: Architecture, *, classes: int) -> MaskFormerForInstanceSegmentation:
    config = architecture.transformers_config()
    config.num_labels = classes
    try:
        if architecture.backbone != "resnet_deep_stem":
            return MaskFormerForInstanceSegmentation(config)
        settings = config.to_dict()
        del settings["model_type"]
        stem = {
            "stem_dim": architecture.stem_dim,
            "dim": architecture.backbone_dim,
            "depths": list(architecture.depths),
        }
        return DeepStemMaskFormer(DeepStemMaskFormerConfig(**settings, deep_stem=stem))
    except ValueError as error:  # widths that do not divide
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(f"a MaskFormer of these dimensions is impossible ({reason})") from None


def _left_behind(name: str) -> str:
    """Return why a tensor is not imported; empty for an unknown one."""
    if name == EMPTY_WEIGHT:
        return "class weights of the training loss"
    if name.endswith(BATCH_COUNTER):
        return "counts training batches; the norm is not trained on"
    if name in ("pixel_mean", "pixel_std"):
        return "the backbone's, on the 0..1 scale in maskformer/preprocessor_config.json"
    return ""


def _made(name: str) -> bool:
    """Whether a tensor of the network is not in the file: never used, or computed."""
    return name.rpartition(".")[0] in (UNUSED_NORM, "criterion") or name.endswith(BATCH_COUNTER)


def _statistics(state: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Read the pixels' mean and deviation, on the 0..1 scale, from older detectron2 files."""
    keys = {"image_mean": "pixel_mean", "image_std": "pixel_std"}
    return {
        field: (state[name].flatten() / 255).tolist() if name in state else IMAGENET[field]
        for field, name in keys.items()
    }


def _in_transformers(name: str) -> str:
    if name.startswith("mask_embed.layers."):
        layer, _, kind = name.removeprefix("mask_embed.layers.").partition(".")
        return f"mask_embedder.{layer}.0.{kind}"
    return name


def copy_transformers_folder(source: Path, folder: Path) -> int:
    """Check the folder of a `transformers` MaskFormer and rewrite it as safetensors.

    Returns:
        The number of tensors.

    Raises:
        OvsegError: if the folder is not a MaskFormer, or has missing or unknown tensors.
    """
    kind = check_transformers(str(source)).get("model_type")
    if kind != "maskformer":
        raise OvsegError(
            f"{source} holds a {str(kind)[:40]} model: only MaskFormer folders can be imported"
        )
    try:
        check_folder(str(source), MaskFormerForInstanceSegmentation)
        network, info = MaskFormerForInstanceSegmentation.from_pretrained(
            source,
            output_loading_info=True,
            local_files_only=True,
            dtype=torch.float32,
            use_safetensors=True,
        )
    except OvsegError:
        raise
    except Exception as error:  # transformers, torch and safetensors raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise OvsegError(f"{source} is not a complete MaskFormer ({reason})") from error
    faults = {name: sorted(map(str, info[f"{name}_keys"])) for name in ("missing", "unexpected")}
    if any(faults.values()):
        raise OvsegError(
            f"{source} is not a complete MaskFormer: missing {shorten_list(faults['missing'])},"
            f" unknown {shorten_list(faults['unexpected'])}"
        )
    check_finite(network.state_dict(), source)
    network.save_pretrained(folder)
    settings = source / "preprocessor_config.json"
    text = json.dumps(read_settings(settings) if settings.is_file() else IMAGENET, indent=2)
    (folder / "preprocessor_config.json").write_text(text + "\n")
    return len(network.state_dict())
