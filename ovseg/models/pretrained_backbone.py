"""Backbones trained for classification, as the paper's segmentation training starts from them.

The files are those of detectron2's model zoo and its converted Swin weights; their names are the
published MaskFormer's without `backbone.`. A classifier has no norms of the four feature maps, so
these stay as they are drawn; its own head is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.class_embedding import Architecture, OpenVocabularyMaskFormer
from ovseg.models.official_names import Names, backbone_names, to_our_names
from ovseg.models.pixel_embedding import PixelEmbeddingNetwork
from ovseg.models.weight_files import listed, named_tensors, read_weights

PREFIX = "backbone."

_LEFT_BEHIND = {
    r"(stem\.)?(fc|head|linear)\.(weight|bias)": "the classifier",
    r"norm\.(weight|bias)": "the classifier's norm; every feature map has its own",
    r"layers\.\d+\.blocks\.\d+\.attn_mask": "made for the size of every picture",
    r".*\.num_batches_tracked": "counts training batches; the norm is frozen",
}
_DRAWN = re.compile(r"backbone\.norm\d+\.(weight|bias)")
_COMPUTED = re.compile(r".*\.relative_position_index")


def load_backbone(
    network: OpenVocabularyMaskFormer | PixelEmbeddingNetwork, path: Path
) -> dict[str, str]:
    """Put the weights of a file into a network's backbone.

    Args:
        network: of any backbone but the ResNet of basic blocks.
        path: `swin_base_patch4_window12_384_22k.pkl`, `R-103.pkl` or the like.

    Returns:
        What of the file was left behind and what of the backbone stays as drawn, with the reason.

    Raises:
        OvsegError: the file cannot be read, or is of another backbone.
    """
    state = named_tensors(read_weights(path), path).state
    weights, reasons = backbone_weights(state, network.architecture)
    own = network.state_dict()
    wrong = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in weights.items()
        if name not in own or own[name].shape != tensor.shape
    ]
    if wrong:
        raise OvsegError(
            f"{path}: the backbone is {network.architecture.backbone}"
            f" {network.architecture.depths} of width {network.architecture.backbone_dim}, the"
            f" file's tensors have other shapes: {listed(wrong)}"
        )
    network.load_state_dict(weights, strict=False)
    return reasons


def backbone_weights(
    state: Mapping[str, Tensor], architecture: Architecture
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a classifier's backbone by our names.

    Args:
        state: tensors by official name, with or without `backbone.` before it.
        architecture: of the network that takes them.

    Returns:
        Some of the network's state dict, and the reason for every tensor of the file that is not in
        it and every one of the backbone that the file does not have.

    Raises:
        OvsegError: if the names are those of something else.
    """
    if architecture.backbone == "resnet":
        raise OvsegError("a ResNet of basic blocks starts from nothing; use another backbone")
    given = {PREFIX + name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    names: Names = backbone_names(architecture)
    reasons, unknown = {}, []
    for name in given.keys() - names.keys():
        reason = _left_behind(name.removeprefix(PREFIX))
        if reason is None:
            unknown.append(name)
        else:
            reasons[name] = reason
    missing = []
    for name in names.keys() - given.keys():
        if _DRAWN.fullmatch(name):
            reasons[name] = "not in a classifier; it stays as drawn"
        elif _COMPUTED.fullmatch(name):
            reasons[name] = "computed from the window"
        else:
            missing.append(name)
    if missing or unknown:
        raise OvsegError(
            f"the file is not a backbone {architecture.backbone} {architecture.depths}: it lacks"
            f" {listed(sorted(missing))}, and has unknown {listed(sorted(unknown))}"
        )
    present = {name: ours for name, ours in names.items() if name in given}
    return to_our_names(given, present), dict(sorted(reasons.items()))


def _left_behind(name: str) -> str | None:
    for pattern, reason in _LEFT_BEHIND.items():
        if re.fullmatch(pattern, name):
            return reason
    return None
