"""Convolutional CLIPs: mask pooling against loops over masks and pixels; loading and saving."""

import math

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.tokenizer import SimpleTokenizer

from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.convolutional import STRIDE, ConvCLIP
from ovseg.models.clip.load import clip_digest, load_clip, load_model, shared_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.regions.embedders import region_embedder
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder, place_shares

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 64},
    "convnext": {
        "timm_model_name": "test_convnext",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 64,
    },
}


def make_clip(tower):
    torch.manual_seed(5)
    config = {"embed_dim": 24, "vision_cfg": TOWERS[tower], "text_cfg": TEXT}
    model = open_clip.CLIP(**config).eval()
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return ConvCLIP(model, tokenizer=SimpleTokenizer(context_length=8), model_cfg=config)


@pytest.fixture(scope="module", params=TOWERS)
def clip(request):
    return make_clip(request.param)


def naive_pool(clip, features_chw, weights_hw):
    """One mask's embedding: a loop over places, and CLIP's own head written out."""
    visual = clip.clip.visual
    places = [(i, j) for i in range(weights_hw.shape[0]) for j in range(weights_hw.shape[1])]
    if not isinstance(visual, ModifiedResNet):
        total = sum(float(weights_hw[i, j]) for i, j in places)
        mean = sum(float(weights_hw[i, j]) / total * features_chw[:, i, j] for i, j in places)
        normed = visual.trunk.head.norm(mean[None, :, None, None]).flatten()
        return F.normalize(visual.head.proj.weight @ normed, dim=0)
    pool = visual.attnpool
    side = math.isqrt(len(pool.positional_embedding) - 1)
    assert (side, side) == weights_hw.shape
    query = pool.q_proj(features_chw.flatten(1).mean(dim=1) + pool.positional_embedding[0])
    out = torch.zeros(pool.q_proj.out_features)
    size = len(out) // pool.num_heads
    for head in range(pool.num_heads):
        part = slice(head * size, (head + 1) * size)
        shares, values = [], []
        for n, (i, j) in enumerate(places):
            if weights_hw[i, j] > 0:
                place = features_chw[:, i, j] + pool.positional_embedding[1 + n]
                score = float(query[part] @ pool.k_proj(place)[part]) / math.sqrt(size)
                shares.append(float(weights_hw[i, j]) * math.exp(score))
                values.append(pool.v_proj(place)[part])
        out[part] = sum(s / sum(shares) * v for s, v in zip(shares, values))
    return F.normalize(pool.c_proj(out), dim=0)


@torch.no_grad()
def test_pooling_is_that_of_a_loop_over_masks_and_places(clip):
    generator = torch.Generator().manual_seed(0)
    features = clip.dense_features(torch.randn(1, 3, 64, 64, generator=generator))[0]
    assert features.shape[1:] == (2, 2)
    weights = torch.rand(4, 2, 2, generator=generator)
    weights[0, 0] = 0
    weights[1] = (weights[1] == weights[1].max()).float()  # a single place
    found = clip.pool_masks(features, weights)
    assert found.shape == (4, 24) and found.dtype == torch.float32
    for q in range(4):
        expected = naive_pool(clip, features, weights[q])
        torch.testing.assert_close(found[q], expected, atol=1e-5, rtol=0)
    assert clip.pool_masks(features, weights[:0]).shape == (0, 24)


@torch.no_grad()
def test_any_size_of_picture_and_crops_as_open_clip_embeds_them(clip):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert clip.embed_dim == 24 and clip.image_size == 64
    own = F.normalize(clip.clip.visual(pixels), dim=-1)
    assert torch.equal(clip.encode_regions(pixels, torch.ones(2, 64, 64)), own)
    assert clip.encode_regions(pixels[:0]).shape == (0, 24)
    wide = clip.dense_features(torch.randn(1, 3, 96, 160))
    assert wide.shape[2:] == (3, 5)
    assert bool(clip.pool_masks(wide[0], torch.ones(2, 3, 5)).isfinite().all())


@torch.no_grad()
def test_a_mask_of_everything_is_the_whole_picture_for_a_convnext():
    clip = make_clip("convnext")
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    everything = clip.pool_masks(clip.dense_features(pixels)[0], torch.ones(1, 2, 2))
    torch.testing.assert_close(everything, clip.encode_regions(pixels), atol=1e-5, rtol=0)


def test_shares_are_the_covered_parts_of_the_places():
    generator = np.random.default_rng(0)
    masks = torch.from_numpy(generator.random((2, 11, 17)) > 0.5)
    shares = place_shares(masks, (3, 4))
    fine = masks.repeat_interleave(12, 1).repeat_interleave(12, 2).float()  # 132 x 204: whole parts
    for q in range(2):
        for i in range(3):
            for j in range(4):
                part = fine[q, i * 44 : (i + 1) * 44, j * 51 : (j + 1) * 51]
                assert float(shares[q, i, j]) == pytest.approx(float(part.mean()), abs=1e-5)
    assert place_shares(masks[:0], (3, 4)).shape == (0, 3, 4)


def test_the_embedder_keeps_small_masks_unless_whole_places_are_asked_for(clip):
    image = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    masks = torch.zeros(3, 64, 96)
    masks[0, 10, 10], masks[1, :40, :70] = 0.9, 0.9
    embeddings, valid = MaskPoolingEmbedder(clip).embed(image, masks, threshold=0.4)
    assert valid.tolist() == [True, True, False] and embeddings.shape == (2, 24)
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2))
    whole = MaskPoolingEmbedder(clip, whole_places=True)
    _, valid = whole.embed(image, masks, threshold=0.4)
    assert valid.tolist() == [False, True, False]
    for nothing in (masks[:0], masks[2:]):
        none, valid = whole.embed(image, nothing, threshold=0.4)
        assert none.shape == (0, 24) and len(valid) == len(nothing) and not valid.any()
    larger, _ = MaskPoolingEmbedder(clip, size=2 * STRIDE + 5).embed(
        image, masks > 0.4, threshold=None
    )
    assert larger.shape == (2, 24)


def test_the_embedder_sees_a_picture_of_any_size_as_the_benchmark_resizes_it(clip, monkeypatch):
    seen = []
    features = clip.dense_features
    monkeypatch.setattr(clip, "dense_features", lambda x: seen.append(x.shape[2:]) or features(x))
    config = BenchmarkConfig(embedder="mask_pooling", short_side=64, max_side=160)
    monkeypatch.setattr("ovseg.models.regions.embedders.shared_clip", lambda name, device: clip)
    embedder = region_embedder(config, clip="any", device="cpu")
    for size in [(64, 96), (128, 192), (32, 48), (64, 320)]:
        image = np.zeros((*size, 3), dtype=np.uint8)
        embedder.embed(image, torch.ones(1, *size, dtype=torch.bool), threshold=None)
    assert seen == [(64, 96), (64, 96), (64, 96), (32, 160)]


def test_gradients_reach_the_tower_and_no_text(clip):
    clip.zero_grad(set_to_none=True)
    features = clip.dense_features(torch.randn(1, 3, 64, 64))[0]
    clip.pool_masks(features, torch.eye(2)[None])[0, 0].backward()
    touched = {name for name, p in clip.clip.named_parameters() if p.grad is not None}
    assert touched and all(name.startswith("visual.") for name in touched)
    clip.zero_grad(set_to_none=True)


def test_a_folder_gives_it_back_and_no_vit_is_made_of_it(clip, tmp_path):
    save_clip(clip, tmp_path / "conv")
    name = str(tmp_path / "conv")
    found = load_model(name)
    assert isinstance(found, ConvCLIP) and not found.training
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found.encode_regions(pixels), clip.encode_regions(pixels))
        assert torch.equal(found.encode_texts(["a cat"]), clip.encode_texts(["a cat"]))
    assert shared_clip(name) is shared_clip(name)
    assert len(clip_digest(name)) == 64
    with pytest.raises(OvsegError, match="choose a ViT"):
        load_clip(name)


def test_a_vit_is_no_convolutional_clip():
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}
    with pytest.raises(OvsegError, match="has VisionTransformer"):
        ConvCLIP(open_clip.CLIP(**config), tokenizer=lambda texts: texts, model_cfg=config)
