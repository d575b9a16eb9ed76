"""What a training on masks and labels starts from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_names import Names, backbone_names, to_our_names
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.weights.files import listed, named_tensors, read_weights

SHARED = "model.pixel_level_module."
"""Weights of backbone and pixel decoder begin with this, in networks of every head."""


def start_from(network: nn.Module, name: str) -> list[str]:
    """Put a MaskFormer's weights into a network, in place.

    Args:
        network: a class-embedding MaskFormer or a network of pixel embeddings.
        name: of the MaskFormer, see `ovseg.models.maskformer.load`.

    Returns:
        Names of the weights that were taken, sorted.

    Raises:
        OvsegError: it has a vocabulary of its own, or other dimensions.
    """
    source = load_maskformer(name)
    if not isinstance(source, OpenMaskFormer):
        raise OvsegError(f"training cannot start from {name}: it has no class embeddings")
    own = network.state_dict()
    given = {key: value for key, value in source.network.state_dict().items() if key in own}
    wrong = sorted(key for key, value in given.items() if own[key].shape != value.shape)
    lacking = sorted(key for key in own if key.startswith(SHARED) and key not in given)
    if wrong or lacking:
        raise OvsegError(
            f"training cannot start from {name}, whose dimensions are others:"
            f" {listed(wrong or lacking)}; name one of the recipe's architecture"
        )
    network.load_state_dict(given, strict=False)
    return sorted(given)


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
