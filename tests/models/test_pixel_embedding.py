"""Pixel embeddings: both heads, pooling and scores against loops over pixels, folders."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import COARSE
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.lseg import embedder as embedding
from ovseg.models.lseg.embedder import (
    PixelEmbedder,
    PixelFeatures,
    PixelPoolingEmbedder,
    load_pixels,
    pixels_digest,
    save_pixel_network,
)
from ovseg.models.lseg.network import FusionDecoder, PixelEmbeddingNetwork
from ovseg.models.preprocessing import InputSettings

INPUTS = InputSettings(short_side=40, max_side=80)


def texts_of(count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=1)


def image_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def network_of(head: str = "fpn") -> PixelEmbeddingNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelEmbeddingNetwork(COARSE, head=head)


@pytest.fixture(scope="module")
def embedder() -> PixelEmbedder:
    return PixelEmbedder(
        network_of(),
        class_names=["a", "b"],
        inputs=INPUTS,
        digest="x",
        device=torch.device("cpu"),
    )


# --------------------------------------------------------------------------------------
# The network


@pytest.mark.parametrize(("head", "stride"), [("fpn", 4), ("dpt", 2)])
def test_a_head_embeds_every_cell_of_its_stride(head: str, stride: int) -> None:
    network = network_of(head)
    out = network(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, 16, 64 // stride, 96 // stride) and out.dtype == torch.float32
    shared = {name.split(".")[1] for name in network.state_dict() if name.startswith("model.")}
    assert shared == {"pixel_level_module"}  # no query, no transformer decoder


def test_the_fusion_decoder_leaves_no_weight_unused() -> None:
    network = network_of("dpt")
    network(torch.randn(1, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_the_fusion_decoder_of_one_map_and_of_none() -> None:
    decoder = FusionDecoder([8], 4)
    assert decoder([torch.randn(1, 8, 3, 5)]).shape == (1, 4, 6, 10)
    with pytest.raises(ValueError, match="no map"):
        decoder([])


def test_logits_are_cosines_over_the_temperature_pixel_by_pixel() -> None:
    network = network_of()
    pixels = torch.randn(2, 16, 3, 4)
    texts = 5 * torch.randn(7, 16)  # of any length
    logits = network.class_logits(pixels, texts)
    for b, y, x, k in [(0, 0, 0, 0), (1, 2, 3, 6), (0, 1, 2, 4)]:
        pixel, text = pixels[b, :, y, x], texts[k]
        cosine = float(pixel @ text) / (float(pixel.norm()) * float(text.norm()))
        assert float(logits[b, k, y, x]) == pytest.approx(cosine / 0.07, rel=1e-5)


def test_no_gradient_goes_into_the_texts() -> None:
    network = network_of()
    texts = texts_of(3).requires_grad_()
    network.class_logits(network(torch.randn(1, 3, 32, 32)), texts).sum().backward()
    assert texts.grad is None
    assert all(p.grad is not None for p in network.pixel_embed.parameters())


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ValueError, match="head must be one of fpn, dpt"):
        PixelEmbeddingNetwork(COARSE, head="mlp")


# --------------------------------------------------------------------------------------
# What is read off the embeddings


def features_of(height: int, width: int, *, stride: int = 4, seed: int = 0) -> PixelFeatures:
    """Random embeddings of an image that is padded to a multiple of 32."""
    padded = tuple(math.ceil(side / 32) * 32 for side in (height, width))
    shape = (16, padded[0] // stride, padded[1] // stride)
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return PixelFeatures(
        embeddings=F.normalize(rows, dim=0), padded=padded, resized=(height, width)
    )


def naive_pooling(features: PixelFeatures, mask: np.ndarray) -> torch.Tensor:
    """The mean over the pixels of a mask at the resized size, one by one."""
    stride = features.padded[0] // features.embeddings.shape[1]
    total = torch.zeros(16)
    for y, x in zip(*np.nonzero(mask)):
        total += features.embeddings[:, y // stride, x // stride]
    mean = total / mask.sum()
    return mean / mean.norm()


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    stride=st.sampled_from([2, 4]),
    seed=st.integers(0, 99),
    share=st.floats(0.02, 1),
)
def test_pooling_is_the_mean_over_pixels(height, width, stride, seed, share) -> None:
    features = features_of(height, width, stride=stride, seed=seed)
    masks = np.random.default_rng(seed).random((3, height, width)) < share
    regions, valid = features.pooled(torch.from_numpy(masks))
    assert valid.tolist() == masks.any(axis=(1, 2)).tolist()
    expected = [naive_pooling(features, mask) for mask in masks if mask.any()]
    assert regions.shape == (len(expected), 16)
    for got, wanted in zip(regions, expected):
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)


def test_pooling_in_parts_and_of_larger_masks(monkeypatch) -> None:
    features = features_of(20, 30)
    masks = torch.rand(5, 20, 30, generator=torch.Generator().manual_seed(3)) > 0.5
    whole, _ = features.pooled(masks)
    with monkeypatch.context() as patched:
        patched.setattr(embedding, "MASK_BUDGET", 1)
        parts, _ = features.pooled(masks)
    torch.testing.assert_close(parts, whole)
    twice = masks.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(features.pooled(twice)[0], whole)  # the same pixels, larger


def test_large_masks_are_brought_to_the_cells_a_few_at_a_time(monkeypatch) -> None:
    features = features_of(20, 30)
    cells, parts = PixelFeatures._cells, []
    monkeypatch.setattr(
        PixelFeatures, "_cells", lambda self, part: parts.append(len(part)) or cells(self, part)
    )
    masks = torch.ones(5, 200, 300, dtype=torch.bool)
    monkeypatch.setattr(embedding, "MASK_BUDGET", 2 * 200 * 300)
    assert len(features.pooled(masks)[0]) == 5
    assert parts == [2, 2, 1]


def test_no_mask_and_an_empty_mask_are_pooled_to_nothing() -> None:
    features = features_of(20, 30)
    regions, valid = features.pooled(torch.zeros(0, 20, 30, dtype=torch.bool))
    assert regions.shape == (0, 16) and valid.shape == (0,)
    regions, valid = features.pooled(torch.zeros(2, 20, 30, dtype=torch.bool))
    assert regions.shape == (0, 16) and valid.tolist() == [False, False]


def test_a_single_pixel_of_a_large_mask_is_not_lost() -> None:
    features = features_of(10, 10)
    mask = torch.zeros(1, 300, 300, dtype=torch.bool)
    mask[0, 299, 299] = True
    regions, valid = features.pooled(mask)
    assert valid.tolist() == [True]
    torch.testing.assert_close(regions[0], features.embeddings[:, 2, 2], atol=1e-5, rtol=0)


def test_cosines_of_pixels_amid_equal_cells_are_theirs() -> None:
    """Bilinear enlarging changes nothing where neighbours agree; the padding is cut off."""
    features = features_of(20, 30)
    features.embeddings[:] = features.embeddings[:, :1, :1].clone()
    texts = texts_of(3)
    maps = features.cosines(texts, (41, 17))
    expected = texts @ features.embeddings[:, 0, 0]
    assert maps.shape == (3, 41, 17)
    torch.testing.assert_close(maps, expected[:, None, None].expand(3, 41, 17), atol=1e-6, rtol=0)


def test_cosines_are_enlarged_as_a_loop_does_it() -> None:
    features, texts = features_of(20, 30), texts_of(2)
    maps = features.cosines(texts, (20, 30))
    rows, columns = features.embeddings.shape[1:]
    for y, x in [(0, 0), (5, 7), (19, 29), (10, 3)]:
        sy, sx = max((y + 0.5) / 4 - 0.5, 0), max((x + 0.5) / 4 - 0.5, 0)
        y0, x0 = int(sy), int(sx)
        y1, x1 = min(y0 + 1, rows - 1), min(x0 + 1, columns - 1)
        fy, fx = sy - y0, sx - x0
        for k, text in enumerate(texts):
            at = {
                (v, u): float(text @ features.embeddings[:, v, u])
                for v in (y0, y1)
                for u in (x0, x1)
            }
            upper = (1 - fx) * at[y0, x0] + fx * at[y0, x1]
            lower = (1 - fx) * at[y1, x0] + fx * at[y1, x1]
            assert float(maps[k, y, x]) == pytest.approx((1 - fy) * upper + fy * lower, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (33, 65), (48, 40)])
def test_images_of_any_size_are_embedded(embedder: PixelEmbedder, size: tuple[int, int]) -> None:
    features = embedder.embed(image_of(*size))
    norms = features.embeddings.norm(dim=0)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    assert features.padded[0] % 32 == features.padded[1] % 32 == 0
    assert min(features.resized) == 40 or max(features.resized) == 80
    assert features.cosines(texts_of(2), size).shape == (2, *size)


def test_the_pooling_embedder_is_told_foreground_by_a_threshold(embedder: PixelEmbedder) -> None:
    pooling, image = PixelPoolingEmbedder(embedder), image_of(48, 40)
    scores = torch.rand(4, 48, 40, generator=torch.Generator().manual_seed(0))
    scores[2] = 0.4  # nothing strictly above
    soft, valid = pooling.embed(image, scores, threshold=0.4)
    assert valid.tolist() == [True, True, False, True] and soft.shape == (3, 16)
    hard, _ = pooling.embed(image, scores > 0.4, threshold=None)
    torch.testing.assert_close(hard, soft)
    norms = soft.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


# --------------------------------------------------------------------------------------
# Folders


def save(folder: Path, *, head: str = "fpn", half: bool = False) -> PixelEmbeddingNetwork:
    network = network_of(head)
    save_pixel_network(
        network,
        folder,
        inputs=INPUTS,
        class_names=["a", "b"],
        text_embeddings=texts_of(2),
        half=half,
    )
    return network


@pytest.mark.parametrize("head", ["fpn", "dpt"])
def test_what_is_saved_is_loaded(tmp_path: Path, head: str) -> None:
    network = save(tmp_path, head=head)
    loaded = load_pixels(tmp_path)
    assert loaded.class_names == ("a", "b") and loaded.inputs == INPUTS and loaded.width == 16
    assert loaded.network.head == head and loaded.network.temperature == 0.07
    state = loaded.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert load_pixels(tmp_path) is loaded  # once a process


def test_the_digest_is_of_settings_and_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name)
    assert pixels_digest(tmp_path / "a") == pixels_digest(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({**config, "temperature": 0.5}))
    save(tmp_path / "c", half=True)
    assert len({pixels_digest(tmp_path / name) for name in "abc"}) == 3


def test_what_is_no_such_folder_is_refused_in_one_line(tmp_path: Path, tiny_maskformer) -> None:
    save(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    for name, message in (
        (tmp_path / "none", "has no pixel embedding network; train one"),
        (tiny_maskformer, "is a ovseg-maskformer model, not a pixel embedding network"),
        (tmp_path / "cut", "is not a complete network"),
    ):
        with pytest.raises(OvsegError, match=message) as caught:
            load_pixels(name)
        assert "\n" not in str(caught.value)
