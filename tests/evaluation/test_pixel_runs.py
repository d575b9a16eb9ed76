"""Counts over runs of pixels equal counts over pixels."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ovseg.evaluation.boundary import boundary_counts, boundary_map, boundary_width
from ovseg.evaluation.counts import confusion_rows, mask_rows
from ovseg.evaluation.metrics import Confusion
from ovseg.evaluation.objects import BOUNDS, SIZES, sized_objects
from ovseg.evaluation.pixel_runs import runs_of


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Ground truth, prediction, K and the ignored label."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    classes, ignore = draw(st.sampled_from([(1, 255), (3, 255), (847, 65535), (3, -1)]))
    size = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    of_truth = draw(
        st.sampled_from([np.uint8, np.int32] if ignore == 255 else [np.int32, np.int64])
    )
    truth = rng.integers(0, classes, size).astype(of_truth)
    guess = np.where(rng.random(size) < 0.7, truth, rng.integers(0, classes + 1, size))
    truth[rng.random(size) < draw(st.sampled_from([0, 0.2, 1]))] = ignore
    times = draw(st.sampled_from([1, 2, 5]))
    block = np.ones((times, times), dtype=np.int8)
    truth = np.kron(truth, block.astype(truth.dtype))
    return truth, np.kron(guess, block).astype(np.int32), classes, ignore


def dense(gt: np.ndarray, pred: np.ndarray, k: int, ignore: int) -> np.ndarray:
    truth = np.where(gt == ignore, k, gt).astype(np.int64).ravel()
    flat = np.bincount(truth * (k + 1) + pred.ravel(), minlength=(k + 1) ** 2)
    return flat.reshape(k + 1, k + 1)


@settings(max_examples=150, deadline=None)
@given(labelled(), labelled())
def test_confusion_is_that_of_all_pixels(one, other):
    gt, pred, k, ignore = one
    expected = dense(gt, pred, k, ignore)
    confusion = Confusion(k, ignore)
    confusion.update(gt, pred)
    entries = [(int(g), int(p), int(expected[g, p])) for g, p in np.argwhere(expected)]
    assert list(confusion.entries()) == entries
    assert [tuple(row.values()) for row in confusion_rows(7, confusion)] == [
        (7, *entry) for entry in entries
    ]
    total = Confusion(k, ignore)
    total += confusion
    total += confusion
    assert np.array_equal(total.counts, 2 * expected)
    assert list(confusion.entries()) == entries  # adding it has not changed it
    confusion.update(gt.T, pred.T)
    assert np.array_equal(confusion.counts, 2 * expected)
    assert np.array_equal((confusion + total).counts, 4 * expected)
    assert list(confusion.entries()) == [(g, p, 2 * n) for g, p, n in entries]
    if other[2:] != (k, ignore):
        with pytest.raises(ValueError, match="different classes"):
            total += Confusion(*other[2:])


def boundary_by_filters(labels: np.ndarray, width: int) -> np.ndarray:
    values = labels.astype(np.int32)
    window = {"size": 2 * width + 1, "mode": "constant", "cval": -1}
    lowest = ndimage.minimum_filter(values, **window)
    return (lowest != values) | (ndimage.maximum_filter(values, **window) != values)


@settings(max_examples=150, deadline=None)
@given(labelled(), st.integers(1, 9))
def test_boundaries_are_those_of_a_window(case, width: int):
    gt, pred, k, ignore = case
    truth = np.where(gt == ignore, k + 1, gt.astype(np.int64))
    guess = np.where(gt == ignore, k + 1, pred)
    assert np.array_equal(boundary_map(truth, width), boundary_by_filters(truth, width))
    counts = boundary_counts(gt, pred, k, ignore)
    width = boundary_width(*gt.shape)
    in_truth, in_guess = boundary_by_filters(truth, width), boundary_by_filters(guess, width)

    def of(labels: np.ndarray, selected: np.ndarray) -> list[int]:
        return np.bincount(labels[selected], minlength=k)[:k].tolist()

    assert counts.hit.tolist() == of(truth, in_truth & in_guess & (truth == guess))
    assert counts.gt_pixels.tolist() == of(truth, in_truth)
    assert counts.predicted_pixels.tolist() == of(guess, in_guess)


def objects_by_class(gt: np.ndarray, pred: np.ndarray, k: int, ignore: int) -> Iterator[tuple]:
    for class_id in range(k):
        parts, number = ndimage.label((gt == class_id) & (gt != ignore), structure=np.ones((3, 3)))
        if not number:
            continue
        area = np.bincount(parts.ravel(), minlength=number + 1)[1:]
        hit = np.bincount(parts[pred == class_id], minlength=number + 1)[1:]
        false = int(((pred == class_id) & (gt != ignore)).sum() - hit.sum())
        size, before, shared = np.searchsorted(BOUNDS, area, side="right"), 0, 0
        for index, name in enumerate(SIZES):
            of_size = size == index
            if of_size.any():
                own, hits = int(area[of_size].sum()), int(hit[of_size].sum())
                before += own
                share = false * before // int(area.sum()) - shared
                shared += share
                yield class_id, name, int(of_size.sum()), hits, own, hits + share


@settings(max_examples=100, deadline=None)
@given(labelled())
def test_objects_are_connected_parts(case):
    assert [tuple(found) for found in sized_objects(*case)] == list(objects_by_class(*case))


def test_objects_of_all_sizes():
    rng = np.random.default_rng(0)
    for times in (9, 40, 100):
        gt = np.kron(rng.integers(0, 3, (4, 5)), np.ones((times, times), dtype=int))
        pred = np.where(rng.random(gt.shape) < 0.8, gt, rng.integers(0, 4, gt.shape))
        case = gt, pred, 3, 255
        assert [tuple(found) for found in sized_objects(*case)] == list(objects_by_class(*case))


def test_runs_end_with_rows_only_if_asked():
    values = np.array([[1, 1, 2], [2, 2, 2]])
    assert [part.tolist() for part in runs_of(values)] == [[0, 2], [2, 4]]
    assert [part.tolist() for part in runs_of(values, by_row=True)] == [[0, 2, 3], [2, 1, 3]]
    assert [part.tolist() for part in runs_of(values, values > 5)] == [[0, 2], [2, 4]]
    assert [len(part) for part in runs_of(np.zeros((0, 3), dtype=int), by_row=True)] == [0, 0]


@settings(max_examples=50, deadline=None)
@given(labelled())
def test_the_share_of_a_mask_is_its_mean(case):
    masks = case[0][None] == np.unique(case[0])[:, None, None]
    rows = mask_rows(1, np.zeros(len(masks), np.int32), masks, np.ones((len(masks), 2), np.float32))
    assert [row["area_fraction"] for row in rows] == [float(mask.mean()) for mask in masks]


@given(st.integers(0, 40), st.integers(0, 9), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None)
def test_runs_split_wherever_a_map_changes(height, width, labels, seed):
    values = np.random.default_rng(seed).integers(0, labels, (height, width))
    flat = values.ravel()
    starts = [at for at in range(flat.size) if at == 0 or flat[at] != flat[at - 1]]
    runs = runs_of(values)
    assert runs.starts.tolist() == starts
    assert runs.lengths.tolist() == np.diff([*starts, flat.size]).tolist()
