"""Regions cut out and embedded: parts, batches, and what a CLIP is shown of them."""

import numpy as np
import pytest
import torch

from ovseg.models.clip.load import load_clip
from ovseg.models.regions.crops import region_crops
from ovseg.models.regions.embedding import Cut, cut_regions, embed_regions


@pytest.fixture
def clip(tiny_clip):
    return load_clip(str(tiny_clip))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)


@pytest.fixture
def masks():
    """Seven masks; the third is empty."""
    drawn = torch.rand(7, 24, 36, generator=torch.Generator().manual_seed(0)) > 0.7
    drawn[2] = False
    return drawn


def sizes_of(clip, monkeypatch):
    """The number of regions of each batch that a CLIP sees, and whether it sees masks."""
    seen = []
    real = clip.encode_regions

    def encode_regions(pixels, masks=None, *, prompts=True):
        seen.append((len(pixels), masks is not None, prompts))
        return real(pixels, masks, prompts=prompts)

    monkeypatch.setattr(clip, "encode_regions", encode_regions)
    return seen


def test_each_part_is_a_batch(clip, image, masks, monkeypatch):
    seen = sizes_of(clip, monkeypatch)
    rows, valid = embed_regions(clip, cut_regions(clip, image, torch.split(masks, 3)))
    assert seen == [(2, True, True), (3, True, True), (1, True, True)]
    assert valid.tolist() == [True, True, False, True, True, True, True]
    whole, _ = embed_regions(clip, cut_regions(clip, image, [masks]))
    assert rows.shape == (6, clip.embed_dim) and torch.allclose(rows, whole, atol=1e-5)


def test_parts_are_joined_into_batches_of_a_size(clip, image, masks, monkeypatch):
    expected, _ = embed_regions(clip, cut_regions(clip, image, torch.split(masks[3:], 2)))
    seen = sizes_of(clip, monkeypatch)
    parts = [*cut_regions(clip, image, torch.split(masks[3:], 3))]
    rows, valid = embed_regions(clip, parts, batch_size=2, masked=False, prompts=False)
    assert seen == [(2, False, False), (2, False, False)] and valid.all()
    assert torch.equal(rows, expected)  # the same rows in the same batches


def test_parts_are_cut_when_they_are_asked_for(clip, image, masks):
    asked = []

    def parts():
        for part in torch.split(masks, 2):
            asked.append(len(part))
            yield part

    cuts = cut_regions(clip, image, parts())
    assert not asked
    next(cuts)
    assert asked == [2]


def test_a_cut_says_how_a_region_looks(clip, image, masks):
    options = {"region": "attenuated_box", "background": 0.6, "expand_ratio": 1.5}
    (ours,) = cut_regions(clip, image, [masks.float() * 0.8], cut=Cut(**options), threshold=0.5)
    theirs = region_crops(
        image,
        masks.float() * 0.8,
        size=clip.image_size,
        mean=clip.pixel_mean,
        std=clip.pixel_std,
        threshold=0.5,
        **options,
    )
    assert torch.equal(ours.pixels, theirs.pixels) and torch.equal(ours.boxes, theirs.boxes)


def test_no_masks_have_no_embeddings(clip, image, masks):
    rows, valid = embed_regions(clip, cut_regions(clip, image, [masks[:0], masks[2:3]]))
    assert rows.shape == (0, clip.embed_dim) and valid.tolist() == [False]
