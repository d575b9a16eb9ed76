"""The starting weights of a training on masks and labels."""

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
from ovseg.models.weights.files import named_tensors, read_weights, shorten_list

SHARED = "model.pixel_level_module."
"""Name prefixes of the backbone's and the pixel decoder's weights, for every head."""


def start_from(network: nn.Module, name: str) -> list[str]:
    """Load a MaskFormer's weights into a network, in place.

    Args:
        network: a class-embedding MaskFormer or a network of pixel embeddings.
        name: name of the MaskFormer, see `ovseg.models.maskformer.load`.

    Returns:
        Names of the loaded weights, sorted.

    Raises:
        OvsegError: if it has a closed vocabulary, or other dimensions.
    """
    source = load_maskformer(name)
    if not isinstance(source, OpenMaskFormer):
        raise OvsegError(f"training cannot start from {name}: it has no class embeddings")
    own = network.state_dict()
    weights = {key: value for key, value in source.network.state_dict().items() if key in own}
    wrong = sorted(key for key, value in weights.items() if own[key].shape != value.shape)
    missing = sorted(key for key in own if key.startswith(SHARED) and key not in weights)
    if wrong or missing:
        raise OvsegError(
            f"training cannot start from {name}, whose dimensions differ:"
            f" {shorten_list(wrong or missing)}; use a MaskFormer of the recipe's architecture"
        )
    network.load_state_dict(weights, strict=False)
    return sorted(weights)


PREFIX = "backbone."
_LEFT_BEHIND = {
    r"(stem\.)?(fc|head|linear)\.(weight|bias)": "the classifier",
    r"norm\.(weight|bias)": "the classifier's norm; every feature map has its own",
    r"layers\.\d+\.blocks\.\d+\.attn_mask": "computed for the size of each image",
    r".*\.num_batches_tracked": "counts training batches; the norm is frozen",
}
_DRAWN = re.compile(r"backbone\.norm\d+\.(weight|bias)")
_COMPUTED = re.compile(r".*\.relative_position_index")


def load_backbone(
    network: OpenVocabularyMaskFormer | PixelEmbeddingNetwork, path: Path
) -> dict[str, str]:
    """Load the weights of a file into a network's backbone.

    Args:
        network: a network with any backbone except the ResNet of basic blocks.
        path: `swin_base_patch4_window12_384_22k.pkl`, `R-103.pkl` or the like.

    Returns:
        The reason for each of the file's tensors that was not loaded, and for each of the
        backbone's that stays random.

    Raises:
        OvsegError: if the file cannot be read, or belongs to another backbone.
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
            f" {network.architecture.depths} of width {network.architecture.backbone_dim}, but the"
            f" file's tensors have other shapes: {shorten_list(wrong)}"
        )
    network.load_state_dict(weights, strict=False)
    return reasons


def backbone_weights(
    state: Mapping[str, Tensor], architecture: Architecture
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Map the tensors of a classifier's backbone to our names.

    Args:
        state: tensors by official name, with or without the prefix `backbone.`.
        architecture: architecture of the network that loads them.

    Returns:
        Part of the network's state dict, and the reason for each tensor of the file that is not in
        it and each of the backbone that is not in the file.

    Raises:
        OvsegError: if the names do not match the backbone.
    """
    if architecture.backbone == "resnet":
        raise OvsegError("a ResNet of basic blocks cannot start from a file; use another backbone")
    tensors = {PREFIX + name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
    names: Names = backbone_names(architecture)
    reasons, unknown = {}, []
    for name in tensors.keys() - names.keys():
        reason = _left_behind(name.removeprefix(PREFIX))
        if reason is None:
            unknown.append(name)
        else:
            reasons[name] = reason
    missing = []
    for name in names.keys() - tensors.keys():
        if _DRAWN.fullmatch(name):
            reasons[name] = "not in a classifier; stays random"
        elif _COMPUTED.fullmatch(name):
            reasons[name] = "computed from the window"
        else:
            missing.append(name)
    if missing or unknown:
        raise OvsegError(
            f"the file is not a backbone {architecture.backbone} {architecture.depths}: missing"
            f" {shorten_list(sorted(missing))}, unknown {shorten_list(sorted(unknown))}"
        )
    present = {name: ours for name, ours in names.items() if name in tensors}
    return to_our_names(tensors, present), dict(sorted(reasons.items()))


def _left_behind(name: str) -> str | None:
    for pattern, reason in _LEFT_BEHIND.items():
        if re.fullmatch(pattern, name):
            return reason
    return None
