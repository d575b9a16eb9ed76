"""Names and shapes of the published models, and what happens to files that are something else.

`golden/published_names.json.gz` holds every name of both published files with its shape and type.
"""

import gzip
import json
from pathlib import Path

import open_clip
import pytest
import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_names import shared_names, to_official_names, to_our_names
from ovseg.models.checkpoints.maskformer_weights import (
    from_official,
    official_architecture,
    to_official,
)
from ovseg.models.clip.load import create_clip
from ovseg.models.maskformer.open_vocabulary import R101C, Architecture, OpenVocabularyMaskFormer

GOLDEN = Path(__file__).parent.parent / "golden"
CLIP = "clip_adapter.clip_model."
STATISTICS = {"clip_adapter.pixel_mean", "clip_adapter.pixel_std"}
PUBLISHED = {  # file, our architecture, CLIP, tensors in all
    "swinB_vitL14": (Architecture(), "ViT-L-14", 954),
    "R101c_vitB16": (R101C, "ViT-B-16", 983),
}
REFERENCE = {
    "swinB_vitL14": ["keys_swin.txt"],
    "R101c_vitB16": ["keys_r101c.txt", "keys_r101c_backbone_derived.txt"],
}
SMALL = {
    "feature_dim": 32,
    "mask_dim": 8,
    "query_dim": 16,
    "queries": 3,
    "decoder_layers": 2,
    "decoder_heads": 2,
    "decoder_ffn": 24,
    "class_hidden_dim": 12,
    "embedding_dim": 10,
}
SWIN = Architecture(backbone_dim=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), window=3, **SMALL)
RESNET = Architecture(
    backbone="resnet_deep_stem",
    stem_dim=8,
    backbone_dim=8,
    depths=(2, 1, 1, 2),
    heads=(),
    drop_path=0.0,
    **SMALL,
)


def _named(model: str) -> dict[str, tuple[tuple[int, ...], str]]:
    stored = json.loads(gzip.decompress((GOLDEN / "published_names.json.gz").read_bytes()))
    return {name: (tuple(shape), kind) for name, (shape, kind) in stored[model].items()}


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {k: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in state.items()}


def _official(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """A published file's MaskFormer with a random value everywhere."""
    generator = torch.Generator().manual_seed(seed)
    state = to_official(
        OpenVocabularyMaskFormer(architecture).state_dict(), architecture, num_classes=4
    )
    for name, tensor in state.items():
        if tensor.is_floating_point() and name != "criterion.empty_weight":
            state[name] = torch.randn(tensor.shape, generator=generator)
    return state


@pytest.fixture(scope="module", params=[SWIN, RESNET], ids=["swin", "resnet"])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return request.param


@pytest.fixture(scope="module")
def official(architecture: Architecture) -> dict[str, Tensor]:
    return _official(architecture)


# --------------------------------------------------------------------------------------
# The published models, on the meta device


@pytest.mark.parametrize("model", PUBLISHED)
def test_our_full_size_model_has_the_published_names_and_shapes(model: str, agrees) -> None:
    architecture, clip_name, count = PUBLISHED[model]
    expected = _named(model)
    assert len(expected) == count
    with torch.device("meta"):
        network = OpenVocabularyMaskFormer(architecture)
        clip = create_clip(
            open_clip.get_model_config(clip_name) | {"quick_gelu": True}, prompt_depth=3
        )
    maskformer = _shapes(to_official(network.state_dict(), architecture, num_classes=171))
    theirs = [name for name in expected if not name.startswith(CLIP) and name not in STATISTICS]
    case = f"open_vocab_maskformer/state_dict_keys.{model}"
    agrees(case, "names of the MaskFormer, in order", list(maskformer), theirs, tolerance=0)
    found = maskformer | _shapes({f"{CLIP}{k}": v for k, v in clip.checkpoint_state().items()})
    found |= dict.fromkeys(STATISTICS, ((1, 3, 1, 1), "float32"))
    agrees(case, "names", sorted(found), sorted(expected), tolerance=0)
    differing = [name for name in expected if found[name] != expected[name]]
    agrees(case, "shapes and types", differing, [], tolerance=0)


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_published_dimensions_are_read_from_the_shapes(model: str) -> None:
    with torch.device("meta"):
        state = {
            name: torch.empty(shape, dtype=getattr(torch, kind))
            for name, (shape, kind) in _named(model).items()
        }
    architecture = official_architecture(state)
    assert architecture == PUBLISHED[model][0]
    ours, dropped = from_official(state, architecture)
    assert list(dropped) == ["criterion.empty_weight"]
    with torch.device("meta"):
        expected = OpenVocabularyMaskFormer(architecture).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_stored_names_are_those_of_the_reference(model: str, reference_data: Path) -> None:
    lines = [
        line.split("\t")
        for file in REFERENCE[model]
        for line in (reference_data / "reference" / file).read_text().splitlines()
    ]
    listed = {name: tuple(json.loads(f"[{shape.strip('(),')}]")) for name, shape, *_ in lines}
    assert listed == {name: shape for name, (shape, _) in _named(model).items()}


# --------------------------------------------------------------------------------------
# There and back


def test_a_file_comes_back_bit_for_bit(
    official: dict[str, Tensor], architecture: Architecture
) -> None:
    found = official_architecture(official, decoder_heads=2)
    assert found == architecture
    network = OpenVocabularyMaskFormer(found)
    ours, dropped = from_official(official, found)
    network.load_state_dict(ours)
    assert set(dropped) == {"criterion.empty_weight"}
    back = to_official(network.state_dict(), found, num_classes=4)
    assert list(back) == list(official)
    assert all(torch.equal(back[name], official[name]) for name in official)


def test_the_clip_half_and_batch_counters_are_left_alone(
    official: dict[str, Tensor], architecture: Architecture
) -> None:
    counter = "backbone.stem.conv1.norm.num_batches_tracked"
    others = {f"{CLIP}proj": torch.ones(1), "clip_adapter.pixel_mean": torch.ones(1, 3, 1, 1)}
    ours, dropped = from_official(official | others | {counter: torch.tensor(7)}, architecture)
    plain, _ = from_official(official, architecture)
    assert ours.keys() == plain.keys()
    assert set(dropped) == {"criterion.empty_weight", counter}
    assert all("\n" not in reason for reason in dropped.values())


def test_fused_attention_holds_queries_keys_and_values_in_this_order() -> None:
    names = {"in_proj_weight": ("q", "k", "v"), "norm": ("norm",)}
    state = {"in_proj_weight": torch.arange(6.0).reshape(6, 1), "norm": torch.ones(2)}
    ours = to_our_names(state, names)
    assert {k: v.flatten().tolist() for k, v in ours.items()} == {
        "q": [0, 1], "k": [2, 3], "v": [4, 5], "norm": [1, 1]
    }  # fmt: skip
    back = to_official_names(ours, names)
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_no_tensor_of_ours_has_two_origins(architecture: Architecture) -> None:
    ours = [mine for names in shared_names(architecture).values() for mine in names]
    assert len(ours) == len(set(ours))
    assert not any("class_embed" in mine for mine in ours)


def test_a_resnet_as_wide_as_its_queries_has_no_projection() -> None:
    narrow = RESNET.model_copy(update={"query_dim": 64})
    assert not any("input_proj" in name for name in shared_names(narrow))
    official = _official(narrow)
    assert official_architecture(official, decoder_heads=2) == narrow
    assert from_official(official, narrow)[0].keys() == (
        OpenVocabularyMaskFormer(narrow).state_dict().keys()
    )


# --------------------------------------------------------------------------------------
# Other files


def _closed(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """A closed-vocabulary MaskFormer of the same family."""
    kept = {k: v for k, v in official.items() if ".class_embed." not in k and "clip" not in k}
    return kept | {
        "sem_seg_head.predictor.class_embed.weight": torch.ones(5, 16),
        "sem_seg_head.predictor.class_embed.bias": torch.ones(5),
    }


def test_other_models_are_refused_by_name(
    official: dict[str, Tensor], architecture: Architecture
) -> None:
    layer = "sem_seg_head.predictor.transformer.decoder.layers.1.norm3.bias"
    encoder = "sem_seg_head.predictor.transformer.encoder.layers.0.norm1.bias"
    cases = [
        ({}, "has no backbone.stem.conv1.weight"),
        ({"fc.weight": torch.ones(2, 2)}, "fc.weight"),
        (_closed(official), "unknown sem_seg_head.predictor.class_embed.weight"),
        ({k: v for k, v in official.items() if k != layer}, f"is missing {layer}"),
        (official | {encoder: torch.ones(16)}, f"unknown {encoder}"),
    ]
    for state, message in cases:
        with pytest.raises(OvsegError) as caught:
            official_architecture(state, decoder_heads=2)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(OvsegError, match=r"3 attention heads do not divide .* 16"):
        official_architecture(official, decoder_heads=3)


def test_wrong_shapes_are_refused_by_name(
    official: dict[str, Tensor], architecture: Architecture
) -> None:
    name = "sem_seg_head.predictor.mask_embed.layers.1.weight"
    with pytest.raises(OvsegError, match=r"mask_embed\.layers\.1\.weight \(5, 16\)"):
        from_official(official | {name: torch.ones(5, 16)}, architecture)
    flat = official | {"sem_seg_head.predictor.query_embed.weight": torch.ones(7)}
    with pytest.raises(OvsegError, match="impossible shapes"):
        official_architecture(flat, decoder_heads=2)
    table = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    if table in official:
        with pytest.raises(OvsegError, match="differ in shape or type"):
            from_official(official | {table: torch.ones(24, 1)}, architecture)


def test_only_published_backbones_are_exported() -> None:
    basic = RESNET.model_copy(update={"backbone": "resnet", "depths": (1, 1, 1, 1)})
    with pytest.raises(OvsegError, match="no published counterpart"):
        to_official(OpenVocabularyMaskFormer(basic).state_dict(), basic, num_classes=4)
    with pytest.raises(OvsegError, match=r"is missing model\."):
        to_official({}, SWIN, num_classes=4)
