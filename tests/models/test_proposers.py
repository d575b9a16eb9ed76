"""Every source by name: one protocol, sizes, edges, digests, messages; superpixels and patches."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from transformers import Dinov2Config, Dinov2Model

from ovseg.config.registry import PROPOSERS
from ovseg.errors import OvsegError
from ovseg.models.clip.load import load_clip
from ovseg.models.preprocessing import InputSize, resized_shape
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.proposals import patch_features
from ovseg.models.proposals.patch_features import (
    ClipPatches,
    TransformersPatches,
    load_patch_features,
    patches_of,
)
from ovseg.models.proposals.proposers import proposer, proposer_digest
from ovseg.models.proposals.superpixels import MOST, Superpixels, felzenszwalb_regions, slic_regions
from ovseg.storybook.scenes import draw_scene

WITHOUT_WEIGHTS = ("slic", "felzenszwalb")
ON_PATCHES = ("maskcut", "clusters")
SIZE = InputSize(short_side=48, max_side=96)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return draw_scene(3, size=96).image


@pytest.mark.parametrize("source", [*WITHOUT_WEIGHTS, *ON_PATCHES])
def test_every_source_is_a_network(source: str, scene: np.ndarray) -> None:
    network = proposer(source, "storybook")
    assert isinstance(network, ProposalNetwork)
    tall = scene[:, :40]
    found = network.propose([scene, tall], size=SIZE)
    assert [each.masks.shape[1:] for each in found] == [(96, 96), (96, 40)]
    assert [each.image.shape[:2] for each in found] == [(48, 48), (96, 40)]
    for each in found:
        assert each.class_embeddings is None and each.class_probabilities is None
        masks, scores = each.masks, each.scores
        assert masks.dtype == scores.dtype == torch.float32
        assert 1 < len(masks) == len(scores) <= MOST
        assert masks.min() >= 0 and masks.max() <= 1
        assert scores.min() >= 0 and scores.max() <= 1
    (resized,) = network.propose([tall], output="resized", size=SIZE)
    assert resized.masks.shape[1:] == resized.image.shape[:2]
    (alone,) = network.propose([tall], size=SIZE)
    assert torch.equal(alone.masks, found[1].masks), "neighbours"
    assert network.propose([]) == []


@pytest.mark.parametrize("source", [*WITHOUT_WEIGHTS, *ON_PATCHES])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5, 3)])
def test_tiny_narrow_and_flat_images(source: str, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, dtype=np.uint8)
    (found,) = proposer(source, "storybook").propose([image], size=InputSize(32, 64))
    assert found.masks.shape[1:] == size
    assert len(found.masks) == len(found.scores)


def test_no_side_of_a_narrow_image_vanishes() -> None:
    assert resized_shape(1, 10_000, 640, 2560) == (1, 2560)


def test_digests_tell_sources_weights_and_segments_apart() -> None:
    digests = [proposer_digest(source, "storybook") for source in (*WITHOUT_WEIGHTS, *ON_PATCHES)]
    digests.append(proposer_digest("slic", "storybook", segments="instance"))
    assert len(set(digests)) == len(digests) and {len(digest) for digest in digests} == {16}
    assert proposer_digest("slic", "whatever") == proposer_digest("slic", "storybook")


def test_unknown_names_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(OvsegError, match=r"benchmarks\.proposals: unknown name 'x'; choose one of"):
        proposer("x", "storybook")
    with pytest.raises(OvsegError, match=r"mining\.proposals\.segments: unknown name 'x'"):
        proposer("slic", "", segments="x", stage="mining.proposals")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    for source, weights, message in (
        ("sam", "storybook", "the storybook has no SAM; name a folder"),
        ("sam", str(tmp_path / "nowhere"), "cannot be loaded"),
        ("sam", str(tmp_path), "is a bert model, not a SAM"),
        ("maskcut", str(tmp_path / "nowhere"), "cannot be loaded"),
        ("clusters", "timm/no_such_model", "timm/no_such_model cannot be loaded"),
        ("clusters", str(tmp_path), "cannot be loaded|no patches"),
    ):
        with pytest.raises(OvsegError, match=message) as caught:
            proposer(source, weights)
        assert "\n" not in str(caught.value)
    assert set(PROPOSERS) == {"maskformer", "sam", *WITHOUT_WEIGHTS, *ON_PATCHES}


# --------------------------------------------------------------------------------------
# Superpixels


@pytest.mark.parametrize("source", WITHOUT_WEIGHTS)
def test_superpixels_are_disjoint_and_largest_first(source: str, scene: np.ndarray) -> None:
    masks, scores = Superpixels(source).masks_of(scene)
    assert torch.equal(masks.sum(0), torch.ones(96, 96)), "fewer than the limit: all pixels"
    areas = masks.flatten(1).sum(1)
    assert (areas[:-1] >= areas[1:]).all() and (areas > 0).all()
    assert (scores == 1).all()


def test_felzenszwalb_joins_what_is_alike_and_slic_does_not() -> None:
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    image[:, 20:] = 200
    regions = felzenszwalb_regions(image)
    assert len(np.unique(regions[:, :18])) == len(np.unique(regions[:, 22:])) == 1
    assert regions[0, 0] != regions[0, 39]
    assert len(np.unique(slic_regions(image))) > 10


# --------------------------------------------------------------------------------------
# Patches


def test_patches_of_a_clip_are_its_last_keys() -> None:
    """On the grid it was trained for nothing is interpolated: a hook sees the same tokens."""
    clip = load_clip("storybook")
    visual = clip.clip.visual
    grid = tuple(visual.grid_size)
    side = visual.image_size[0]
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    last = visual.transformer.resblocks[-1]
    handle = last.ln_1.register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.no_grad():
        visual(pixels)
    handle.remove()
    width = seen[0].shape[-1]
    attention = last.attn
    keys = seen[0][0, 1:] @ attention.in_proj_weight[width : 2 * width].T
    keys = keys + attention.in_proj_bias[width : 2 * width]
    with torch.no_grad():
        ours = ClipPatches(clip, "digest", "cpu").tokens(pixels, grid)
    torch.testing.assert_close(ours, keys, atol=1e-5, rtol=1e-4)


def test_the_longer_side_has_as_many_patches() -> None:
    features = load_patch_features("storybook")
    found = features.of(np.zeros((50, 100, 3), dtype=np.uint8))
    assert found.shape[:2] == (patch_features.PATCHES // 2, patch_features.PATCHES)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(found.shape[:2]))
    assert load_patch_features("storybook").digest == features.digest
    assert patches_of("storybook-2") == "storybook" and patches_of("timm/x") == "timm/x"


def test_a_vit_of_transformers(tmp_path: Path, scene: np.ndarray) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    features = load_patch_features(str(tmp_path))
    assert isinstance(features, TransformersPatches) and features.patch == 14
    pixels = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[0, 1:]
        torch.testing.assert_close(features.tokens(pixels, (2, 3)), expected)
    assert features.of(scene).shape == (32, 32, 16)
    (found,) = proposer("clusters", str(tmp_path)).propose([scene], size=SIZE)
    assert len(found.scores) > 3


def test_a_vit_of_timm(tmp_path: Path, scene: np.ndarray) -> None:
    torch.manual_seed(0)
    name = "vit_tiny_patch16_224"
    tiny = {"embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": 32, "num_classes": 0}
    model = timm.create_model(name, pretrained=False, **tiny)
    config = {
        "architecture": name,
        "num_classes": 0,
        "model_args": {key: tiny[key] for key in ("embed_dim", "depth", "num_heads", "img_size")},
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 0},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    features = load_patch_features(f"timm/local-dir:{tmp_path}")
    assert features.patch == 16 and features.of(scene).shape == (32, 32, 24)
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.eval().forward_features(pixels)[0, 1:]
        torch.testing.assert_close(features.tokens(pixels, (2, 2)), expected)


def test_another_image_tower_is_refused() -> None:
    clip = load_clip("storybook")
    clip.clip.visual = torch.nn.Identity()
    with pytest.raises(OvsegError, match="whose image tower is a vision transformer"):
        ClipPatches(clip, "digest", "cpu")
