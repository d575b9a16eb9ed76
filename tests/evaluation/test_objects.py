"""Objects by size: by hand, against a slow reference, and what must hold for every label map."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovseg.evaluation import objects
from ovseg.evaluation.objects import SIZES, SizedObjects, sized_objects

K, IGNORE = 3, 255


def test_by_hand():
    gt = np.zeros((200, 200), dtype=np.uint8)
    gt[10:20, 10:20] = 1  # 100 pixels: small
    gt[20:25, 20:25] = 1  # meets it at a corner: one object of 125
    gt[50:82, 50:82] = 1  # 32 x 32: medium
    gt[100:196, 100:196] = 1  # 96 x 96: large
    pred = np.zeros_like(gt)
    pred[10:15, 10:20] = 1  # 50 of the small one
    pred[50:82, 50:82] = 1
    pred[0:5, 100:200] = 1  # 500 false alarms
    found = {(row.class_id, row.size): row for row in sized_objects(gt, pred, 2, IGNORE)}
    area = {"small": 125, "medium": 1024, "large": 9216}
    whole, false = sum(area.values()), 500
    small = false * 125 // whole
    medium = false * (125 + 1024) // whole - small
    assert found[1, "small"] == SizedObjects(1, "small", 1, 50, 125, 50 + small)
    assert found[1, "medium"] == SizedObjects(1, "medium", 1, 1024, 1024, 1024 + medium)
    assert found[1, "large"] == SizedObjects(1, "large", 1, 0, 9216, false - small - medium)
    assert found[0, "large"].objects == 1 and (0, "small") not in found


def components(mask):
    """Connected parts of a mask by flood, 8 neighbours."""
    left = {tuple(place) for place in np.argwhere(mask)}
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    edge.append(near)
        yield part


def slow(gt, pred, bounds):
    counts = defaultdict(lambda: [0, 0, 0])
    for c in range(K):
        for part in components(gt == c):
            size = SIZES[sum(len(part) >= bound for bound in bounds)]
            hits = sum(pred[place] == c for place in part)
            for index, number in enumerate((1, hits, len(part))):
                counts[c, size][index] += number
    return dict(counts)


labels = arrays(np.uint8, (6, 7), elements=st.sampled_from([*range(K), IGNORE]))
guesses = arrays(np.uint8, (6, 7), elements=st.integers(0, K))


@settings(max_examples=40, deadline=None)
@given(labels, guesses)
def test_equals_the_slow_reference_and_adds_up(gt, pred):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "BOUNDS", (3, 8))
        found = list(sized_objects(gt, pred, K, IGNORE))
    counts = {(row.class_id, row.size): [row.objects, row.hit, row.gt_pixels] for row in found}
    assert counts == slow(gt, pred, (3, 8))
    valid = gt != IGNORE
    for c in range(K):  # sizes share out exactly what there is of a class in the image
        own = [row for row in found if row.class_id == c]
        assert sum(row.gt_pixels for row in own) == (gt == c).sum()
        predicted = (valid & (pred == c)).sum() if own else 0
        assert sum(row.predicted_pixels for row in own) == predicted
        assert all(row.predicted_pixels >= row.hit >= 0 for row in own)


@settings(max_examples=20, deadline=None)
@given(labels, guesses, st.integers(0, K))
def test_what_is_predicted_on_ignored_pixels_never_counts(gt, pred, other):
    changed = np.where(gt == IGNORE, other, pred)
    assert list(sized_objects(gt, pred, K, IGNORE)) == list(sized_objects(gt, changed, K, IGNORE))
