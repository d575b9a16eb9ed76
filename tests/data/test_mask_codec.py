"""Encodings equal those of pycocotools byte for byte, and so do the pixels made of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from ovseg.data import mask_bits, mask_tensors, masks
from ovseg.data.rle import Runs, from_strings, to_strings
from ovseg.storybook.scenes import draw_scene

LIMITS = {
    "as they are": {"FEW_PIXELS": mask_bits.FEW_PIXELS},
    "by bits": {"FEW_PIXELS": 0, "DENSE_TO_ENCODE": 2, "DENSE_TO_DECODE": 2},
    "by bits, few at once": {"FEW_PIXELS": 0, "DENSE_TO_ENCODE": 2, "PIXELS_AT_ONCE": 150},
    "by bits, in many rows": {"FEW_PIXELS": 0, "DENSE_TO_DECODE": 2, "FEW_BYTES": 0},
    "by pixels": {"FEW_PIXELS": 0, "DENSE_TO_ENCODE": -1, "DENSE_TO_DECODE": -1},
    "by both": {"FEW_PIXELS": 0, "DENSE_TO_ENCODE": 0.2, "DENSE_TO_DECODE": 0.2},
}


@contextmanager
def limits(of: str) -> Iterator[None]:
    """Send small masks one of the ways of large ones."""
    with mock.patch.multiple(mask_bits, **LIMITS[of]):
        yield


def theirs(masks_qhw: np.ndarray) -> list[bytes]:
    return [coco.encode(np.asfortranarray(one, dtype=np.uint8))["counts"] for one in masks_qhw]


KINDS = {
    "noise": lambda rng, size: rng.random(size) < 0.5,
    "sparse": lambda rng, size: rng.random(size) < 0.05,
    "empty": lambda rng, size: np.zeros(size, dtype=bool),
    "full": lambda rng, size: np.ones(size, dtype=bool),
    "pixel": lambda rng, size: np.arange(size[0] * size[1]).reshape(size) == rng.integers(2**16),
    "first and last": lambda rng, size: np.isin(
        np.arange(size[0] * size[1]).reshape(size), [0, size[0] * size[1] - 1]
    ),
    "checkerboard": lambda rng, size: np.indices(size).sum(0) % 2 == rng.integers(2),
    "columns": lambda rng, size: np.indices(size)[1] % 2 == 0,
    "rows": lambda rng, size: np.indices(size)[0] % 2 == 0,
    "blobs": lambda rng, size: (
        np.add(*(np.sin(i / 4 + rng.random() * 9) for i in np.indices(size))) > rng.normal() / 2
    ),
}


@st.composite
def several(draw: st.DrawFn) -> np.ndarray:
    side = st.one_of(st.integers(1, 9), st.sampled_from([1, 15, 16, 17, 63, 64, 65, 130]))
    size = draw(side), draw(side)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    kinds = draw(st.lists(st.sampled_from([*KINDS]), max_size=6))
    return np.array([KINDS[kind](rng, size) for kind in kinds], dtype=bool).reshape(-1, *size)


def check_codec(masks_qhw: np.ndarray) -> None:
    size = masks_qhw.shape[1:]
    expected = theirs(masks_qhw)
    assert masks.encode(masks_qhw) == expected
    assert masks.encode(np.asfortranarray(masks_qhw)) == expected
    assert to_strings(mask_tensors.runs_of(torch.from_numpy(masks_qhw))) == expected
    assert mask_tensors.encode(torch.from_numpy(masks_qhw)) == expected
    decoded = masks.decode(expected, size)
    assert decoded.dtype == bool and decoded.flags.c_contiguous and decoded.flags.writeable
    assert np.array_equal(decoded, masks_qhw)
    bits = torch.from_numpy(mask_bits.bits_of(from_strings(expected, size)))
    assert np.array_equal(mask_tensors.unpacked(bits, size[1]).numpy(), masks_qhw)
    assert np.array_equal(mask_tensors.decode(expected, size, "cpu").numpy(), masks_qhw)
    rles = [{"size": [*size], "counts": one} for one in expected]
    areas, boxes = masks.areas_and_boxes(expected, size)
    assert areas.tolist() == [int(coco.area(one)) for one in rles]
    for box, area, rle in zip(boxes.tolist(), areas.tolist(), rles, strict=True):
        x, y, width, height = coco.toBbox(rle).tolist()
        assert box == ([x, y, x + width, y + height] if area else [0, 0, 0, 0])


@pytest.mark.parametrize("of", LIMITS)
@settings(max_examples=120, deadline=None)
@given(several())
def test_strings_and_pixels_are_those_of_pycocotools(of: str, masks_qhw: np.ndarray):
    with limits(of):
        check_codec(masks_qhw)


@st.composite
def any_runs(draw: st.DrawFn) -> tuple[list[list[int]], tuple[int, int]]:
    """Runs of masks of a size, any of them empty."""
    size = draw(st.integers(1, 7)), draw(st.integers(1, 20))
    pixels = size[0] * size[1]
    cuts = st.lists(st.integers(0, pixels), max_size=8).map(sorted)
    ends = draw(st.lists(cuts, min_size=1, max_size=4))
    return [np.diff([0, *each, pixels]).tolist() for each in ends], size


@pytest.mark.parametrize("of", LIMITS)
@settings(max_examples=120, deadline=None)
@given(any_runs())
def test_empty_runs_are_read_as_pycocotools_reads_them(of: str, case):
    """No encoder writes empty runs but the first; files may hold them."""
    runs, size = case
    rles = [coco.frPyObjects({"size": [*size], "counts": each}, *size) for each in runs]
    counts = [each["counts"] for each in rles]
    lengths = np.concatenate([np.array(each, dtype=np.int32) for each in runs])
    given_runs = Runs(lengths, np.cumsum([len(each) for each in runs]), size)
    assert to_strings(given_runs) == counts
    read = from_strings(counts, size)
    assert read.lengths.tolist() == lengths.tolist()
    with limits(of):
        decoded = masks.decode(counts, size)
    expected = np.array([coco.decode(each) for each in rles], dtype=bool)
    assert np.array_equal(decoded, expected)
    areas, boxes = masks.areas_and_boxes(counts, size)
    assert areas.tolist() == expected.sum(axis=(1, 2)).tolist()
    tight = [coco.toBbox(coco.encode(np.asfortranarray(each, np.uint8))) for each in expected]
    for (x, y, width, height), area, box in zip(tight, areas, boxes.tolist(), strict=True):
        assert box == ([x, y, x + width, y + height] if area else [0, 0, 0, 0])


@pytest.mark.parametrize("size", [(480, 640), (1, 2**18), (2**18, 1), (4500, 4001)])
def test_masks_of_photos(size: tuple[int, int]):
    """Some of one image are encoded by bits, some by pixels, and not all at once."""
    rng = np.random.default_rng(0)
    names = ("blobs", "noise", "empty", "pixel", "full", "checkerboard", "rows")
    number = 7 if size[0] * size[1] < 2**20 else 2
    check_codec(np.array([KINDS[name](rng, size) for name in names[:number]]))


def test_no_masks_on_a_device():
    none = torch.zeros(0, 4, 5, dtype=torch.bool)
    assert mask_tensors.encode(none) == []
    assert mask_tensors.encode(none.to("meta")) == []
    assert mask_tensors.decode([], (4, 5), "cpu").shape == (0, 4, 5)
    assert mask_tensors.unpacked(torch.zeros(0, 4, 1, dtype=torch.uint8), 5).shape == (0, 4, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_of_a_gpu():
    rng = np.random.default_rng(0)
    shapes = np.array([make(rng, (480, 641)) for make in KINDS.values()], dtype=bool)
    on_gpu = torch.from_numpy(shapes).cuda()
    counts = mask_tensors.encode(on_gpu)
    assert counts == theirs(shapes)
    decoded = mask_tensors.decode(counts, (480, 641), "cuda")
    assert decoded.is_cuda and torch.equal(decoded, on_gpu)


def label_masks(labels: np.ndarray) -> np.ndarray:
    return labels[None] == np.unique(labels)[:, None, None]


@pytest.mark.parametrize("of", ["as they are", "by bits"])
def test_masks_of_the_storybook(of: str):
    with limits(of):
        for seed in range(4):
            check_codec(np.array([segment.mask for segment in draw_scene(seed).segments]))


def test_masks_of_real_label_maps(reference_data: Path):
    folder = reference_data / "realdata" / "coco128_panoptic" / "semantic_segmentation"
    paths = sorted(folder.rglob("*.png"))[:6]
    assert paths
    for path in paths:
        check_codec(label_masks(np.asarray(Image.open(path))))
