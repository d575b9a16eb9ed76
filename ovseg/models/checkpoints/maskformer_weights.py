"""The published open-vocabulary MaskFormer: infer its dimensions, convert its weights both ways.

A published file names its tensors as detectron2 does (`ovseg.models.checkpoints.maskformer_names`).
Everything except training constants is converted bit for bit; missing or unknown tensors are an
error that names them. The CLIP inside the same file is ignored here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_names import (
    BATCH_COUNTER,
    EMPTY_WEIGHT,
    UNUSED_NORM,
    open_vocabulary_names,
    to_official_names,
    to_our_names,
)
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.weights.files import shorten_list

NON_OBJECT_WEIGHT = 0.1
"""Weight of *non-object* in the published models' cross entropy."""

NON_OBJECT = "clip_adapter.non_object_embedding"
_CLIP_HALF = re.compile(r"clip_adapter\.(?!non_object_embedding$)|pixel_(mean|std)$")


def official_architecture(state: Mapping[str, Tensor], *, decoder_heads: int = 8) -> Architecture:
    """Infer the dimensions of a published open-vocabulary MaskFormer from names and shapes.

    Args:
        state: tensors by official name, with or without the CLIP half.
        decoder_heads: attention heads of the transformer decoder, not inferable from shapes; 8 in
            the published models.

    Returns:
        The architecture; drop path is the paper's, 0.3 for Swin and none for a ResNet.

    Raises:
        OvsegError: if the tensors do not belong to an open-vocabulary MaskFormer.
    """
    try:
        dimensions = shared_dimensions(state) | _class_head(state)
        architecture = Architecture(**dimensions, decoder_heads=decoder_heads)
    except KeyError as error:
        raise OvsegError(
            f"this is not a published MaskFormer: it has no {error.args[0]}, but"
            f" {shorten_list(_maskformer_half(state))}; give a file such as"
            " ovseg_swinbase_vitL14_ft_mpt.pth"
        ) from None
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(
            f"the MaskFormer's tensors have impossible shapes ({reason}); download the file again"
        ) from None
    if architecture.query_dim % decoder_heads:
        raise OvsegError(
            f"{decoder_heads} attention heads do not divide the decoder's width of"
            f" {architecture.query_dim}; give the number the model was trained with"
        )
    _check_names(state, architecture)
    return architecture


def shared_dimensions(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the fields of `Architecture`, except the class head's, of a published MaskFormer.

    Args:
        state: tensors by official name.

    Raises:
        KeyError: with the name of a missing tensor.
    """
    decoder = "sem_seg_head.predictor.transformer.decoder.layers"
    backbone = _swin(state) if "backbone.patch_embed.proj.weight" in state else _resnet(state)
    queries, query_dim = state["sem_seg_head.predictor.query_embed.weight"].shape
    mask_features = state["sem_seg_head.pixel_decoder.mask_features.weight"]
    return backbone | {
        "feature_dim": mask_features.shape[1],
        "mask_dim": mask_features.shape[0],
        "query_dim": query_dim,
        "queries": queries,
        "decoder_layers": _count(state, decoder),
        "decoder_ffn": state[f"{decoder}.0.linear1.weight"].shape[0],
    }


def _swin(state: Mapping[str, Tensor]) -> dict[str, Any]:
    stages = _count(state, "backbone.layers")
    tables = [
        state[f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table"]
        for stage in range(stages)
    ]
    # one row per offset in a window, from -(window - 1) to window - 1 in both directions
    sides = round(len(tables[0]) ** 0.5) if tables else 0
    return {
        "backbone": "swin",
        "backbone_dim": state["backbone.patch_embed.proj.weight"].shape[0],
        "depths": tuple(
            _count(state, f"backbone.layers.{stage}.blocks") for stage in range(stages)
        ),
        "heads": tuple(table.shape[1] for table in tables),
        "window": (sides + 1) // 2,
        "drop_path": 0.3,
    }


def _resnet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    deep = "backbone.stem.conv3.weight" in state
    stem = state[f"backbone.stem.conv{3 if deep else 1}.weight"]
    depths: list[int] = []
    while depth := _count(state, f"backbone.res{len(depths) + 2}"):
        depths.append(depth)
    return {
        "backbone": "resnet_deep_stem" if deep else "resnet_bottleneck",
        "stem_dim": stem.shape[0],
        "backbone_dim": state["backbone.res2.0.conv3.weight"].shape[0],
        "depths": tuple(depths),
        "heads": (),
        "drop_path": 0.0,
    }


def _class_head(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the head's dimensions; empty if it is missing, which the check of names reports."""
    head = "sem_seg_head.predictor.class_embed.layers"
    layers = {"class_hidden_dim": f"{head}.0.weight", "embedding_dim": f"{head}.1.weight"}
    return {field: state[name].shape[0] for field, name in layers.items() if name in state}


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Count the modules `prefix.0`, `prefix.1` ... that have tensors."""
    numbered = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for name in state if (match := numbered.match(name))})


# --------------------------------------------------------------------------------------
# Weights


def from_official(
    state: Mapping[str, Tensor], architecture: Architecture
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Convert a published MaskFormer's weights for `OpenVocabularyMaskFormer(architecture)`.

    Args:
        state: tensors by official name; a CLIP half is ignored.
        architecture: as `official_architecture` infers it.

    Returns:
        A state dict that loads strictly, and the reason for each dropped tensor of the MaskFormer.

    Raises:
        OvsegError: if a tensor is missing, unknown or of another shape.
    """
    _check_names(state, architecture)
    ours = to_our_names(state, open_vocabulary_names(architecture))
    expected = _expected(architecture)
    for name, tensor in expected.items():
        if name == f"{UNUSED_NORM}.weight":
            ours[name] = torch.ones(tensor.shape)
        elif name == f"{UNUSED_NORM}.bias" or name.endswith(BATCH_COUNTER):
            ours[name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    wrong = [
        f"{name} {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in ours.items()
        if name not in expected or not alike(tensor, expected[name])
    ]
    if wrong or len(ours) != len(expected):
        raise OvsegError(
            "the file's tensors differ in shape or type from the network of"
            f" {architecture.backbone} {architecture.depths}, under our names:"
            f" {shorten_list(wrong)}; only the architectures of the published models are supported"
        )
    dropped = {}
    for name in state:
        if name == EMPTY_WEIGHT:
            dropped[name] = "class weights of the training loss, recomputed on export"
        elif name.endswith(BATCH_COUNTER):
            dropped[name] = "counts training batches; the norm is frozen"
    return ours, dropped


def alike(tensor: Tensor, expected: Tensor) -> bool:
    """Whether two tensors have the same shape, and both or neither are floats."""
    return (
        tensor.shape == expected.shape
        and tensor.is_floating_point() == expected.is_floating_point()
    )


def _expected(architecture: Architecture) -> dict[str, Tensor]:
    """Return the network's names and shapes without allocating it."""
    try:
        with torch.device("meta"):
            return OpenVocabularyMaskFormer(architecture).state_dict()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        # torch and transformers raise these for widths that do not divide
        reason = " ".join(str(error).split())[:200]
        raise OvsegError(
            f"a MaskFormer of these dimensions is impossible ({reason}); download the file again"
        ) from None


def to_official(
    state: Mapping[str, Tensor], architecture: Architecture, *, num_classes: int
) -> dict[str, Tensor]:
    """Invert `from_official`: return tensors by official name, in the official order.

    Args:
        state: state dict of an `OpenVocabularyMaskFormer`.
        architecture: its architecture.
        num_classes: number of training classes K, which sets the length of the class weights.

    Returns:
        Backbone, segmentation head, `criterion.empty_weight` (K + 1,) and the non-object embedding.

    Raises:
        OvsegError: if the backbone has no published counterpart, or a tensor is missing.
    """
    if architecture.backbone == "resnet":
        raise OvsegError(
            "a MaskFormer with a ResNet of basic blocks has no published counterpart; only the"
            " other backbones can be exported under the official names"
        )
    names = open_vocabulary_names(architecture)
    missing = [mine for ours in names.values() for mine in ours if mine not in state]
    if missing:
        raise OvsegError(f"the network is missing {shorten_list(missing)}; give a complete state")
    official = to_official_names(state, names)
    non_object = official.pop(NON_OBJECT)  # it comes after the criterion
    empty_weight = torch.ones(num_classes + 1, device=non_object.device)
    empty_weight[-1] = NON_OBJECT_WEIGHT
    return {**official, EMPTY_WEIGHT: empty_weight, NON_OBJECT: non_object}


def _check_names(state: Mapping[str, Tensor], architecture: Architecture) -> None:
    names = open_vocabulary_names(architecture)
    missing = [name for name in names if name not in state]
    left_over = [
        name
        for name in _maskformer_half(state)
        if name not in names and name != EMPTY_WEIGHT and not name.endswith(BATCH_COUNTER)
    ]
    if missing or left_over:
        problems = [f"is missing {shorten_list(missing)}"] if missing else []
        problems += [f"has unknown {shorten_list(left_over)}"] if left_over else []
        raise OvsegError(
            f"the file {' and '.join(problems)}, so it is not the published open-vocabulary"
            f" MaskFormer with {architecture.backbone} {architecture.depths}"
        )


def _maskformer_half(state: Mapping[str, Tensor]) -> list[str]:
    return [name for name in state if not _CLIP_HALF.match(name)]
