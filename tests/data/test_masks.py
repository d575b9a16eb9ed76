"""Run-length encodings against the arrays they stand for."""

import itertools

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
    assert masks.areas_and_boxes(counts, size)[0].tolist() == [
        int(mask.sum()) for mask in masks_qhw
    ]
    boxes = masks.areas_and_boxes(counts, size)[1]
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
    assert masks.areas_and_boxes([], (4, 5))[1].shape == (0, 4)
    assert masks.areas_and_boxes([], (4, 5))[0].shape == (0,)
    assert masks.iou([], [], (4, 5)).shape == (0, 0)
    assert masks.suppressed([], (4, 5), [], 0.5).shape == (0,)


@pytest.mark.parametrize(("scores", "drop"), [([0.9, 0.9], [0, 1]), ([0.1, 0.9], [1, 0])])
def test_equal_scores_keep_the_first(scores: list[float], drop: list[int]):
    twice = np.ones((2, 3, 3), dtype=bool)
    assert masks.suppressed(masks.encode(twice), (3, 3), scores, 0.5).tolist() == drop


def runs_of(counts: bytes) -> list[int] | None:
    """The runs a string stands for, read one by one; None where it ends within one."""
    numbers: list[int] = []
    value, place = 0, 0
    for character in counts:
        bits = character - 48
        value |= (bits & 31) << (5 * place)
        place += 1
        if not bits & 32:
            value -= (1 << (5 * place)) if bits & 16 else 0
            numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
            value, place = 0, 0
    return None if place else numbers


characters = st.sampled_from([bytes([each]) for each in range(47, 114)])
near_valid = st.tuples(
    arrays.arrays(bool, st.tuples(st.just(1), st.integers(1, 9), st.integers(1, 9))),
    st.lists(st.tuples(st.integers(0, 200), characters), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(near_valid)
def test_what_is_checked_is_what_the_characters_say(case):
    """A changed string is accepted exactly if its runs are those of some mask of the size."""
    mask, changes = case
    height, width = mask.shape[1:]
    counts = bytearray(masks.encode(mask)[0])
    for place, character in changes:
        counts[place % len(counts)] = character[0]
    runs = runs_of(bytes(counts)) if all(48 <= each <= 111 for each in counts) else None
    valid = runs is not None and min(runs) >= 0 and sum(runs) == height * width
    good = masks.encode(~mask)[0]
    assert masks.broken([good, bytes(counts)], (height, width)).tolist() == [False, not valid]
    if valid:
        expected = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
        assert np.array_equal(masks.decode([bytes(counts)], (height, width))[0], expected)


BAD = {
    "nothing": (b"", "it is empty"),
    "a number that goes on": (b"0" * 5 + b"o", "its last character says that more follows"),
    "a byte before the first": (b"\x000", "a character that no encoding has"),
    "a byte behind the last": (b"4p", "a character that no encoding has"),
    "too few pixels": (b"9", "its runs do not add up to 4 x 4 pixels"),
    "too many pixels": (b"98", "its runs do not add up to 4 x 4 pixels"),
    "a run that is longer": (b"oo0", "a run that is negative or too long"),
    "a negative run": (b"@1`0", "a run that is negative or too long"),
    "a number without end": (b"o" * 9 + b"0", "a number that is too large"),
    "no mask": (None, "its counts are NoneType, not ASCII text"),
    "a list of runs": ([16], "its counts are list, not ASCII text"),
    "other letters": ("\u0664" * 3, "its counts are str, not ASCII text"),
}


@pytest.mark.parametrize("use", ["decode", "areas", "boxes", "iou", "suppressed", "broken"])
@pytest.mark.parametrize("kind", BAD)
def test_a_damaged_encoding_is_refused_wherever_one_is_taken(kind, use):
    counts, reason = BAD[kind]
    good = masks.encode(np.eye(4, dtype=bool)[None])[0]
    calls = {
        "decode": lambda: masks.decode([good, counts], (4, 4)),
        "areas": lambda: masks.areas_and_boxes([good, counts], (4, 4))[0],
        "boxes": lambda: masks.areas_and_boxes([good, counts], (4, 4))[1],
        "iou": lambda: masks.iou([good], [good, counts], (4, 4)),
        "suppressed": lambda: masks.suppressed([good, counts], (4, 4), [0.1, 0.2], 0.5),
    }
    if use == "broken":
        assert masks.broken([good, counts, good], (4, 4)).tolist() == [False, True, False]
        return
    with pytest.raises(masks.MaskError) as caught:
        calls[use]()
    assert str(caught.value).startswith(f"mask 2 cannot be used ({reason}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "size", [(0, 4), (4, 0), (-4, -4), (2**20, 2**20), (4,), (4, 4, 1), None, ("4", 4), (4.5, 4)]
)
def test_a_size_of_no_image_is_refused(size):
    for call in (masks.decode, masks.areas_and_boxes):
        with pytest.raises(masks.MaskError, match="its size"):
            call([b"@0"], size)


def test_text_is_taken_as_well_as_bytes():
    (counts,) = masks.encode(np.eye(4, dtype=bool)[None])
    assert np.array_equal(masks.decode([counts.decode()], (4, 4))[0], np.eye(4, dtype=bool))


@pytest.mark.parametrize("key", ["pair_id", "image_id"])
def test_a_row_with_a_damaged_mask_is_named(key):
    row = {"mask_size": [4, 4], "mask_counts": b"o", key: "abc"}
    with pytest.raises(
        masks.MaskError, match=rf"the mask of {key[:-3]} abc cannot be used .* make it again"
    ):
        masks.decode_row(row)
    (row["mask_counts"],) = masks.encode(np.eye(4, dtype=bool)[None])
    assert np.array_equal(masks.decode_row(row), np.eye(4, dtype=bool))
    with pytest.raises(masks.MaskError, match="it has 4 x 4 pixels, its image has 5 x 4"):
        masks.decode_row(row, (5, 4))
    with pytest.raises(masks.MaskError, match="its size None"):
        masks.decode_row({**row, "mask_size": None})


def test_long_runs_of_large_masks_pass():
    """Differences of long runs need the longest numbers; large masks are no reason to refuse."""
    size = (8000, 9000)
    wide = np.zeros(size, dtype=bool)
    wide[:, 1:2] = wide[:, 8000:] = True
    counts = masks.encode(wide[None])
    assert masks.areas_and_boxes(counts, size)[0].tolist() == [wide.sum()]
    sides = [
        masks.encode(np.ones((1, height, 3), dtype=bool))[0] for height in (1, 15, 16, 511, 512)
    ]
    for counts, height in zip(sides, (1, 15, 16, 511, 512), strict=True):
        assert masks.areas_and_boxes([counts], (height, 3))[0].tolist() == [3 * height]


def test_any_number_of_masks_is_checked_at_once():
    """Strings of different lengths, side by side in any order, are told apart."""
    shapes = [np.zeros((6, 5)), np.ones((6, 5)), np.eye(6, 5), 1 - np.eye(6, 5), np.eye(6, 5)[::-1]]
    counts = masks.encode(np.array(shapes, dtype=bool))
    for order in itertools.permutations(range(5)):
        given_ = [counts[index] for index in order]
        assert masks.check(given_, (6, 5)) == given_
