"""Boundary IoU against the definition, class by class, and what must hold for every label map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ovseg.evaluation.boundary import boundary_counts, boundary_map, boundary_width

K, IGNORE = 4, 255


def naive_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask without its erosion by a 3 x 3 square `width` times over, zeros beyond the image."""
    eroded = np.pad(mask, 1)
    for _ in range(width):
        before = eroded.copy()
        for y in range(1, before.shape[0] - 1):
            for x in range(1, before.shape[1] - 1):
                eroded[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].all()
    return mask & ~eroded[1:-1, 1:-1]


def naive_counts(gt, pred):
    """Class by class, pixel by pixel, over the pixels that count."""
    width = boundary_width(*gt.shape)
    valid = gt != IGNORE
    rows = []
    for c in range(K):
        truth = naive_boundary((gt == c) & valid, width)
        guess = naive_boundary((pred == c) & valid, width)
        rows.append(((truth & guess).sum(), truth.sum(), guess.sum()))
    return np.array(rows).T


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
labels = st.sampled_from([*range(K), IGNORE])


@st.composite
def images(draw):
    shape = draw(shapes)
    gt = draw(arrays(np.uint8, shape, elements=labels))
    return gt, draw(arrays(np.uint8, shape, elements=st.integers(0, K)))


@settings(max_examples=40, deadline=None)
@given(images())
def test_counts_are_those_of_the_definition(image):
    counts = boundary_counts(*image, K, IGNORE)
    np.testing.assert_array_equal(list(vars(counts).values()), naive_counts(*image))


@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_map_of_all_classes_is_every_class_eroded(width):
    rng = np.random.default_rng(width)
    gt = rng.integers(0, 847, (6, 8)).repeat(9, 0).repeat(9, 1)
    gt[10:30, 10:40] = 846
    expected = np.zeros(gt.shape, dtype=bool)
    for c in np.unique(gt):
        square = np.ones((2 * width + 1, 2 * width + 1), dtype=bool)
        expected |= (gt == c) & ~ndimage.binary_erosion(gt == c, square)
    np.testing.assert_array_equal(boundary_map(gt, width), expected)
    assert boundary_map(np.zeros((1, 1), int), width).all()


@settings(max_examples=30, deadline=None)
@given(images())
def test_identical_masks_are_one_and_disjoint_ones_zero(image):
    gt, _ = image
    same = boundary_counts(gt, np.where(gt == IGNORE, 0, gt), K, IGNORE)
    assert (same.iou[~np.isnan(same.iou)] == 1).all()
    other = boundary_counts(gt, np.where(gt == IGNORE, 0, (gt + 1) % K), K, IGNORE)
    assert (other.iou[~np.isnan(other.iou)] == 0).all()
    # a class with pixels has a boundary
    assert ((same.gt_pixels > 0) == [(gt == c).any() for c in range(K)]).all()


@settings(max_examples=30, deadline=None)
@given(images(), st.integers(0, K))
def test_what_is_predicted_on_ignored_pixels_never_counts(image, other):
    gt, pred = image
    changed = np.where(gt == IGNORE, other, pred)
    one, two = boundary_counts(gt, pred, K, IGNORE), boundary_counts(gt, changed, K, IGNORE)
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, vars(two)[name])


def test_the_width_is_two_percent_of_the_diagonal():
    assert [boundary_width(*size) for size in ((300, 400), (512, 683), (10, 10), (1, 1))] == [
        10,
        17,
        1,
        1,
    ]


def test_a_shift_costs_the_boundary_more_than_the_mask():
    gt = np.zeros((100, 100), dtype=np.uint8)
    gt[20:80, 20:80] = 1
    pred = np.roll(gt, 3, axis=1)
    iou = (gt & pred).sum() / (gt | pred).sum()
    counts = boundary_counts(gt, pred, 2, IGNORE)
    assert boundary_width(100, 100) == 3
    # bands of 3 pixels about a square of 60: two sides are shared, shifted ones are not
    assert counts.gt_pixels[1] == counts.predicted_pixels[1] == 60**2 - 54**2
    assert counts.hit[1] == 2 * 3 * 57
    assert counts.iou[1] < 0.4 < iou
