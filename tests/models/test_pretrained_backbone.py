"""Backbones trained for classification: what is taken over, left behind and refused."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.checkpoints.maskformer_weights import to_official
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.training.segmentation.starting_weights import PREFIX, backbone_weights, load_backbone

SMALL = {
    "feature_dim": 32,
    "mask_dim": 8,
    "query_dim": 16,
    "queries": 3,
    "decoder_layers": 1,
    "decoder_heads": 2,
    "decoder_ffn": 24,
    "class_hidden_dim": 12,
    "embedding_dim": 10,
}
SWIN = Architecture(backbone_dim=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), window=3, **SMALL)
RESNET = Architecture(
    backbone="resnet_deep_stem", stem_dim=8, backbone_dim=8, depths=(2, 1, 1, 2), heads=(), **SMALL
)
EXTRA = {
    "swin": {
        "head.weight": torch.ones(5, 64),
        "head.bias": torch.ones(5),
        "norm.weight": torch.ones(64),
        "norm.bias": torch.ones(64),
        "layers.1.blocks.1.attn_mask": torch.ones(4, 9, 9),
    },
    "resnet_deep_stem": {
        "stem.fc.weight": torch.ones(5, 64),
        "stem.fc.bias": torch.ones(5),
        "res2.0.conv1.norm.num_batches_tracked": torch.tensor(7),
    },
}


@pytest.fixture(params=[SWIN, RESNET], ids=["swin", "resnet"])
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return request.param


def _classifier(architecture: Architecture) -> dict[str, Tensor]:
    """A classifier's tensors as the published files name them, all different from a new network."""
    torch.manual_seed(1)
    network = OpenVocabularyMaskFormer(architecture)
    state = to_official(network.state_dict(), architecture, num_classes=3)
    backbone = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
    kept = {k: v for k, v in backbone.items() if not k.startswith("norm")}
    changed = {k: v + 0.25 if v.is_floating_point() else v for k, v in kept.items()}
    return changed | EXTRA[architecture.backbone]


def test_the_backbone_is_taken_over_and_the_rest_stays(
    architecture: Architecture, tmp_path: Path
) -> None:
    state = _classifier(architecture)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path = tmp_path / "backbone.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True}))
    torch.manual_seed(2)
    network = OpenVocabularyMaskFormer(architecture)
    before = to_official(network.state_dict(), architecture, num_classes=3)
    before = {name: tensor.clone() for name, tensor in before.items()}
    reasons = load_backbone(network, path)
    after = to_official(network.state_dict(), architecture, num_classes=3)
    for name, tensor in after.items():
        plain = name.removeprefix(PREFIX)
        taken = name.startswith(PREFIX) and plain in state
        assert torch.equal(tensor, state[plain] if taken else before[name]), name
    norms = {f"backbone.norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")}
    expected = {PREFIX + name for name in EXTRA[architecture.backbone]}
    assert set(reasons) == expected | (norms if architecture is SWIN else set())


def test_names_may_have_the_prefix_and_the_index_may_lack(architecture: Architecture) -> None:
    state = _classifier(architecture)
    whole, _ = backbone_weights(state, architecture)
    prefixed = {PREFIX + name: tensor for name, tensor in state.items() if "index" not in name}
    without, reasons = backbone_weights(prefixed, architecture)
    assert without.keys() == {name for name in whole if "index" not in name}
    assert ("computed from the window" in reasons.values()) == (architecture is SWIN)


def test_other_files_are_refused_by_name(architecture: Architecture, tmp_path: Path) -> None:
    state = _classifier(architecture)
    other = RESNET if architecture is SWIN else SWIN
    with pytest.raises(OvsegError, match=f"not a backbone {other.backbone}"):
        backbone_weights(state, other)
    with pytest.raises(OvsegError, match=r"unknown backbone\.pos_embed"):
        backbone_weights(state | {"pos_embed": torch.ones(1)}, architecture)
    with pytest.raises(OvsegError, match="cannot start from a file"):
        backbone_weights(state, architecture.model_copy(update={"backbone": "resnet"}))
    path = tmp_path / "wide.pth"
    first = next(iter(state))
    torch.save(state | {first: torch.ones(3, 3, 1, 1)}, path)
    network = OpenVocabularyMaskFormer(architecture)
    with pytest.raises(OvsegError, match=r"other shapes: .* \(3, 3, 1, 1\)"):
        load_backbone(network, path)
