"""Label maps of the classes that can win equal those of all classes, ties included."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ovseg.models import contenders as pruning
from ovseg.models import ensemble as formulas
from ovseg.models.contenders import contenders
from ovseg.models.ensemble import aggregate, best_of_parts, label_map, resized_maps
from ovseg.storybook.scenes import draw_scene


def straightforward(p_qk: Tensor, masks_qhw: Tensor, size: tuple[int, int], empty: int) -> Tensor:
    pixels = max(size[0] * size[1], masks_qhw[0].numel())
    parts = torch.split(p_qk, max(1, formulas.SCORE_BUDGET // pixels), dim=1)
    best, labels = best_of_parts(resized_maps(aggregate(part, masks_qhw), size) for part in parts)
    return labels.masked_fill(best == 0, empty)


def smooth_masks(number: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.randn(number, 1, 4, 5, generator=generator) * 4 - 2
    return F.interpolate(coarse, size=size, mode="bicubic")[:, 0].sigmoid()


def peaked_scores(number: int, classes: int, generator: torch.Generator) -> Tensor:
    return (torch.randn(number, classes, generator=generator) * 3).softmax(1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Scores and masks, many of them equal, and the size of the label map."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    number, classes = (
        draw(st.integers(1, 12)),
        draw(st.sampled_from([1, 2, 15, 16, 17, 40, 90, 150])),
    )
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    p_qk = peaked_scores(number, classes, generator)
    masks_qhw = smooth_masks(number, (height, width), generator)
    if draw(st.booleans()):  # classes with the same name
        p_qk = p_qk[:, torch.randint(classes, (classes,), generator=generator)]
    if draw(st.booleans()):  # exact products and sums: ties between different classes
        p_qk = (p_qk * 8).round() / 8
    if draw(st.booleans()):
        masks_qhw = (masks_qhw * draw(st.sampled_from([1, 4]))).round() / 4
    size = draw(st.sampled_from([(height, width), (2 * height, width + 3), (1, 1), (7, 30)]))
    return p_qk, masks_qhw, size


@pytest.mark.parametrize("most_tiles", [4, 30, pruning.MOST_TILES])
@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([1, 7, 16, 23, 49, 1000]))
def test_label_maps_are_those_of_all_classes(most_tiles: int, case, at_once: int):
    """In parts of any size, whose last classes are rounded differently from the others."""
    p_qk, masks_qhw, size = case
    budget = at_once * max(size[0] * size[1], masks_qhw[0].numel())
    with (
        mock.patch.object(pruning, "MOST_TILES", most_tiles),
        mock.patch.object(formulas, "SCORE_BUDGET", budget),
    ):
        labels = label_map(p_qk, masks_qhw, size, empty=-1)
        assert torch.equal(labels, straightforward(p_qk, masks_qhw, size, -1))


@given(st.sets(st.integers(0, 99)), st.integers(1, 120))
def test_parts_keep_what_is_rounded_differently(left: set[int], at_once: int):
    parts = pruning.in_parts(torch.tensor(sorted(left), dtype=torch.long), 100, at_once)
    kept = [index for part in parts for index in part.tolist()]
    assert left <= set(kept) and kept == sorted(set(kept))
    for part in parts:
        start = int(part[0]) // at_once * at_once
        stop = min(start + at_once, 100)
        whole = start + (stop - start) // 16 * 16
        assert int(part[-1]) < stop and left & set(part.tolist())
        assert int((part < whole).sum()) % 16 == 0
        assert int((part >= whole).sum()) in (0, stop - whole)
        assert len(part) >= min(16, stop - start)


@pytest.mark.parametrize("size", [(120, 160), (97, 203)])
def test_most_of_a_large_vocabulary_is_left_out(size: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    p_qk = peaked_scores(30, 847, generator)
    masks_qhw = smooth_masks(30, (120, 160), generator)
    left = contenders(p_qk, masks_qhw)
    assert len(left) < 400 and torch.equal(left, left.unique())
    expected = straightforward(p_qk, masks_qhw, size, 847)
    assert torch.isin(expected, left).all()
    assert torch.equal(label_map(p_qk, masks_qhw, size, empty=847), expected)


def test_segments_of_the_storybook():
    """Binary masks: a tile with an outline may be of any class, as every mask is 0 somewhere."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        segments = draw_scene(seed).segments
        masks_qhw = torch.stack([torch.from_numpy(segment.mask) for segment in segments]).float()
        p_qk = peaked_scores(len(segments), 150, generator)
        for masks in (masks_qhw, F.avg_pool2d(masks_qhw, 3, 1, 1)):
            expected = straightforward(p_qk, masks, (70, 50), 150)
            assert torch.equal(label_map(p_qk, masks, (70, 50), empty=150), expected)


@pytest.mark.parametrize("value", [-0.5, float("nan"), float("inf"), 0.0, 1e-42])
@pytest.mark.parametrize("of", ["scores", "masks"])
def test_values_without_bounds_leave_all_classes(value: float, of: str):
    generator = torch.Generator().manual_seed(0)
    p_qk = peaked_scores(3, 40, generator)
    masks_qhw = smooth_masks(3, (30, 20), generator)
    (p_qk if of == "scores" else masks_qhw)[:] = value
    assert contenders(p_qk, masks_qhw).tolist() == [*range(40)]


def test_no_proposals():
    assert contenders(torch.zeros(0, 40), torch.zeros(0, 4, 4)).tolist() == [*range(40)]
    assert label_map(torch.zeros(0, 40), torch.zeros(0, 4, 4), (4, 4), empty=40).eq(40).all()
