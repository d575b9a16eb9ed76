"""Oracle arms: what is painted by hand, and bounds that oracles keep."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ovseg.data.benchmarks.benchmark import region_masks
from ovseg.evaluation.oracles import label_proposals, oracle_scores, paint_regions

K, IGNORE = 3, 255
labels = arrays(np.int32, (5, 6), elements=st.sampled_from([*range(K), IGNORE]))


def test_regions_get_the_names_they_were_given():
    gt = np.array([[0, 0, 2], [255, 2, 2]], dtype=np.int32)
    painted = paint_regions(gt, np.array([0, 2]), np.array([2, 1]), K)
    assert painted.tolist() == [[2, 2, 1], [3, 1, 1]]


def test_scores_of_proposals_by_hand():
    gt = np.array([[0, 0, 1, 1], [0, 0, 1, 255]], dtype=np.int32)
    masks = torch.zeros(3, 2, 4)
    masks[0, :, :2] = 0.9  # class 0 exactly
    masks[1, 0, 1:3] = 0.6  # one pixel of each class
    masks[2, 1, 3] = 1.0  # ignored alone
    scores = oracle_scores(masks, gt, K)
    shares = np.array([1 / 5, 1 / 4])  # 1 of 4 + 2 - 1, 1 of 3 + 2 - 1
    np.testing.assert_allclose(scores[0], [1, 0, 0])
    np.testing.assert_allclose(scores[1], [*shares / shares.sum(), 0], rtol=1e-6)
    assert scores[2].tolist() == [0, 0, 0]
    assert oracle_scores(masks[:0], gt, K).shape == (0, K)
    mapped = label_proposals(masks[:1], gt, K)
    assert mapped.tolist() == [[0, 0, K, K], [0, 0, K, K]]
    assert (label_proposals(masks[:0], gt, K) == K).all()


@settings(max_examples=30, deadline=None)
@given(labels)
def test_proposals_that_are_the_regions_are_labelled_rightly(gt):
    _, masks = region_masks(gt, K)
    mapped = label_proposals(torch.as_tensor(masks).float(), gt, K)
    counted = gt != IGNORE
    assert np.array_equal(mapped[counted], gt[counted])
