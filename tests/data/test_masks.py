"""Run-length encodings against the arrays they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ovseg.data import masks

any_masks = arrays.arrays(
    bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)), elements=st.booleans()
)


def brute_iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 0.0


@settings(max_examples=150, deadline=None)
@given(any_masks)
def test_round_trip_boxes_areas_and_overlaps(masks_qhw: np.ndarray):
    size = masks_qhw.shape[1:]
    counts = masks.encode(masks_qhw)
    assert all(isinstance(one, bytes) for one in counts)
    decoded = masks.decode(counts, size)
    assert decoded.dtype == bool and decoded.flags.c_contiguous
    assert np.array_equal(decoded, masks_qhw)
    assert masks.areas(counts, size).tolist() == [int(mask.sum()) for mask in masks_qhw]
    boxes = masks.boxes(counts, size)
    assert boxes.shape == (len(masks_qhw), 4)
    for mask, box in zip(masks_qhw, boxes.tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        tight = (
            [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else 4 * [0]
        )
        assert box == tight
    overlap = masks.iou(counts, counts[:2], size)
    expected = [[brute_iou(one, other) for other in masks_qhw[:2]] for one in masks_qhw]
    assert np.allclose(overlap, np.array(expected).reshape(overlap.shape))


@settings(max_examples=150, deadline=None)
@given(any_masks, st.data(), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_suppression_leaves_no_overlap_and_keeps_the_best(masks_qhw, data, threshold: float):
    number, size = len(masks_qhw), masks_qhw.shape[1:]
    scores = data.draw(st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=number, max_size=number))
    counts = masks.encode(masks_qhw)
    drop = masks.suppressed(counts, size, scores, threshold)
    overlap = masks.iou(counts, counts, size)
    order = sorted(range(number), key=lambda index: (-scores[index], index))
    rank = {index: place for place, index in enumerate(order)}
    for index in range(number):
        better_kept = [
            other
            for other in range(number)
            if rank[other] < rank[index] and not drop[other] and overlap[index, other] > threshold
        ]
        assert drop[index] == bool(better_kept)  # dropped exactly for a better one that stays
    if number:
        assert not drop[order[0]]


def test_a_known_encoding():
    """COCO counts down the columns, background first."""
    mask = np.zeros((1, 2, 3), dtype=bool)
    mask[0, :, 1] = True
    from pycocotools import mask as coco

    uncompressed = {"size": [2, 3], "counts": [2, 2, 2]}
    assert masks.encode(mask)[0] == coco.frPyObjects(uncompressed, 2, 3)["counts"]


def test_no_masks_at_all():
    empty = np.zeros((0, 4, 5), dtype=bool)
    assert masks.encode(empty) == []
    assert masks.decode([], (4, 5)).shape == (0, 4, 5)
    assert masks.boxes([], (4, 5)).shape == (0, 4)
    assert masks.areas([], (4, 5)).shape == (0,)
    assert masks.iou([], [], (4, 5)).shape == (0, 0)
    assert masks.suppressed([], (4, 5), [], 0.5).shape == (0,)


@pytest.mark.parametrize(("scores", "drop"), [([0.9, 0.9], [0, 1]), ([0.1, 0.9], [1, 0])])
def test_equal_scores_keep_the_first(scores: list[float], drop: list[int]):
    twice = np.ones((2, 3, 3), dtype=bool)
    assert masks.suppressed(masks.encode(twice), (3, 3), scores, 0.5).tolist() == drop
