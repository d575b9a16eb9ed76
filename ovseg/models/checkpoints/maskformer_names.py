"""Names of the published MaskFormer parameters, mapped to those of `OpenVocabularyMaskFormer`.

The published models are detectron2's: a `backbone`, and a `sem_seg_head` of pixel decoder and
predictor. `shared_names` covers every MaskFormer of that family; `open_vocabulary_names` adds the
class-embedding head. Queries, keys and values of an attention are one tensor there and three here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, cat

from ovseg.models.maskformer.open_vocabulary import Architecture

Names = dict[str, tuple[str, ...]]
"""Official name to ours; three names if the official tensor concatenates three of ours."""

EMPTY_WEIGHT = "criterion.empty_weight"
"""Class weights of the official loss: 1, and less for the last, *non-object*."""
UNUSED_NORM = "model.pixel_level_module.encoder.model.layernorm"
"""Our Swin classifier's final norm; features for segmentation have a norm per stage instead."""
BATCH_COUNTER = ".num_batches_tracked"
"""Suffix of a norm's counter of training batches; a frozen norm needs none."""

_ENCODER = "model.pixel_level_module.encoder"
_FPN = "model.pixel_level_module.decoder.fpn"
_TRANSFORMER = "model.transformer_module"
_PIXEL_DECODER = "sem_seg_head.pixel_decoder"
_PREDICTOR = "sem_seg_head.predictor"

_Pairs = Iterator[tuple[str, tuple[str, ...]]]


def _weight_bias(official: str, ours: str) -> _Pairs:
    for kind in ("weight", "bias"):
        yield f"{official}.{kind}", (f"{ours}.{kind}",)


def _conv_norm(official: str, conv: str, norm: str) -> _Pairs:
    yield f"{official}.weight", (f"{conv}.weight",)
    yield from _weight_bias(f"{official}.norm", norm)


# --------------------------------------------------------------------------------------
# Backbones


def _swin(architecture: Architecture) -> _Pairs:
    embeddings = f"{_ENCODER}.model.embeddings"
    yield from _weight_bias(
        "backbone.patch_embed.proj", f"{embeddings}.patch_embeddings.projection"
    )
    yield from _weight_bias("backbone.patch_embed.norm", f"{embeddings}.norm")
    stages = len(architecture.depths)
    for stage, depth in enumerate(architecture.depths):
        theirs, ours = f"backbone.layers.{stage}", f"{_ENCODER}.model.encoder.layers.{stage}"
        for block in range(depth):
            yield from _swin_block(f"{theirs}.blocks.{block}", f"{ours}.blocks.{block}")
        if stage + 1 < stages:
            reduction = "downsample.reduction.weight"
            yield f"{theirs}.{reduction}", (f"{ours}.{reduction}",)
            yield from _weight_bias(f"{theirs}.downsample.norm", f"{ours}.downsample.norm")
    for stage in range(stages):
        yield from _weight_bias(f"backbone.norm{stage}", f"{_ENCODER}.hidden_states_norms.{stage}")


def _swin_block(theirs: str, ours: str) -> _Pairs:
    yield from _weight_bias(f"{theirs}.norm1", f"{ours}.layernorm_before")
    for table in ("relative_position_bias_table", "relative_position_index"):
        yield f"{theirs}.attn.{table}", (f"{ours}.attention.self.{table}",)
    for kind in ("weight", "bias"):
        parts = (f"{ours}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
        yield f"{theirs}.attn.qkv.{kind}", tuple(parts)
    yield from _weight_bias(f"{theirs}.attn.proj", f"{ours}.attention.output.dense")
    yield from _weight_bias(f"{theirs}.norm2", f"{ours}.layernorm_after")
    yield from _weight_bias(f"{theirs}.mlp.fc1", f"{ours}.intermediate.dense")
    yield from _weight_bias(f"{theirs}.mlp.fc2", f"{ours}.output.dense")


def _resnet(architecture: Architecture) -> _Pairs:
    """Yield names of our deep-stem ResNet, or of the `transformers` one with bottleneck blocks."""
    deep = architecture.backbone == "resnet_deep_stem"
    for conv in ("conv1", "conv2", "conv3") if deep else ("conv1",):
        ours = f"{_ENCODER}.stem.{conv}" if deep else f"{_ENCODER}.embedder.embedder"
        yield from _frozen(f"backbone.stem.{conv}", ours, deep=deep)
    inputs = architecture.stem_dim
    for stage, depth in enumerate(architecture.depths):
        outputs = architecture.backbone_dim * 2**stage
        for block in range(depth):
            theirs = f"backbone.res{stage + 2}.{block}"
            # the first block of a later stage has a stride, and twice as many channels
            shortcut = ("shortcut",) if block == 0 and inputs != outputs else ()
            for conv in (*shortcut, "conv1", "conv2", "conv3"):
                if deep:
                    ours = f"{_ENCODER}.stages.{stage}.{block}.{conv}"
                else:
                    part = conv if conv == "shortcut" else f"layer.{int(conv[-1]) - 1}"
                    ours = f"{_ENCODER}.encoder.stages.{stage}.layers.{block}.{part}"
                yield from _frozen(f"{theirs}.{conv}", ours, deep=deep)
        inputs = outputs


def _frozen(theirs: str, ours: str, *, deep: bool) -> _Pairs:
    conv, norm = ("conv", "norm") if deep else ("convolution", "normalization")
    yield f"{theirs}.weight", (f"{ours}.{conv}.weight",)
    for kind in ("weight", "bias", "running_mean", "running_var"):
        yield f"{theirs}.norm.{kind}", (f"{ours}.{norm}.{kind}",)


# --------------------------------------------------------------------------------------
# Pixel decoder, transformer decoder, heads


def _pixel_decoder(architecture: Architecture) -> _Pairs:
    stages = len(architecture.depths)
    for stage in range(1, stages):  # ours go from coarse to fine; the coarsest is the stem
        ours = f"{_FPN}.layers.{stages - 1 - stage}"
        for theirs, part in (("adapter", "proj"), ("layer", "block")):
            yield from _conv_norm(
                f"{_PIXEL_DECODER}.{theirs}_{stage}", f"{ours}.{part}.0", f"{ours}.{part}.1"
            )
    yield from _conv_norm(f"{_PIXEL_DECODER}.layer_{stages}", f"{_FPN}.stem.0", f"{_FPN}.stem.1")
    projection = "model.pixel_level_module.decoder.mask_projection"
    yield from _weight_bias(f"{_PIXEL_DECODER}.mask_features", projection)


def _transformer(architecture: Architecture) -> _Pairs:
    for layer in range(architecture.decoder_layers):
        theirs = f"{_PREDICTOR}.transformer.decoder.layers.{layer}"
        ours = f"{_TRANSFORMER}.decoder.layers.{layer}"
        for attention, name in (("self_attn", "self_attn"), ("multihead_attn", "encoder_attn")):
            for kind in ("weight", "bias"):
                parts = tuple(f"{ours}.{name}.{part}_proj.{kind}" for part in "qkv")
                yield f"{theirs}.{attention}.in_proj_{kind}", parts
            yield from _weight_bias(f"{theirs}.{attention}.out_proj", f"{ours}.{name}.o_proj")
        for index in (1, 2):
            yield from _weight_bias(f"{theirs}.linear{index}", f"{ours}.mlp.fc{index}")
        norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
        for index, norm in enumerate(norms, start=1):
            yield from _weight_bias(f"{theirs}.norm{index}", f"{ours}.{norm}")
    decoder = f"{_PREDICTOR}.transformer.decoder.norm"
    yield from _weight_bias(decoder, f"{_TRANSFORMER}.decoder.layernorm")
    yield f"{_PREDICTOR}.query_embed.weight", (f"{_TRANSFORMER}.queries_embedder.weight",)
    last = architecture.backbone_dim * 2 ** (len(architecture.depths) - 1)
    if last != architecture.query_dim:  # both have a projection only if it is needed
        yield from _weight_bias(f"{_PREDICTOR}.input_proj", f"{_TRANSFORMER}.input_projection")


def _mlp(name: str, layers: int) -> _Pairs:
    for layer in range(layers):
        yield from _weight_bias(f"{_PREDICTOR}.{name}.layers.{layer}", f"{name}.layers.{layer}")


def backbone_names(architecture: Architecture) -> Names:
    """Return the backbone's part of `shared_names`; official names start with `backbone.`."""
    swin = architecture.backbone == "swin"
    return dict(_swin(architecture) if swin else _resnet(architecture))


def shared_names(architecture: Architecture) -> Names:
    """Return the names that open and closed published MaskFormers share.

    Args:
        architecture: any backbone except `resnet`; its class head is ignored.

    Returns:
        Backbone, pixel decoder, transformer decoder, queries and mask head, in the official order.
        Our names are those of `OpenVocabularyMaskFormer`; all but the mask head's
        (`mask_embed.layers.N`) are also those of transformers' `MaskFormerForInstanceSegmentation`.
    """
    parts = (_pixel_decoder(architecture), _transformer(architecture), _mlp("mask_embed", 3))
    return backbone_names(architecture) | {o: ours for part in parts for o, ours in part}


def open_vocabulary_names(architecture: Architecture) -> Names:
    """Return the names of the open-vocabulary MaskFormer's tensors, in the official order."""
    non_object: Names = {"clip_adapter.non_object_embedding": ("non_object_embedding",)}
    return shared_names(architecture) | dict(_mlp("class_embed", 2)) | non_object


# --------------------------------------------------------------------------------------
# Tensors


def to_our_names(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Rename tensors, and split those that combine queries, keys and values.

    Args:
        state: tensors by official name, with every name in `names`.
        names: official names to ours.

    Returns:
        Tensors by our name; views of the input if nothing had to be copied.
    """
    return {
        mine: part
        for official, ours in names.items()
        for mine, part in zip(ours, state[official].chunk(len(ours)), strict=True)
    }


def to_official_names(state: Mapping[str, Tensor], names: Names) -> dict[str, Tensor]:
    """Invert `to_our_names`."""
    return {
        official: state[ours[0]] if len(ours) == 1 else cat([state[mine] for mine in ours])
        for official, ours in names.items()
    }
