"""Clusters of features: known regions, scores by hand, edges, the same again."""

import numpy as np
import pytest

from ovseg.models.proposals import clusters as clustering
from ovseg.models.proposals.clusters import NUMBERS, cluster_masks


def test_known_regions_are_among_the_clusters() -> None:
    labels = np.arange(64).reshape(8, 8) // 16  # four bands
    noise = np.random.default_rng(0).normal(scale=0.02, size=(8, 8, 4))
    features = np.eye(4)[labels] + noise
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    masks, scores = cluster_masks(features)
    found = {mask.tobytes() for mask in masks}
    assert {(labels == band).tobytes() for band in range(4)} <= found
    assert len(found) == len(masks), "no mask twice"
    for mask, score in zip(masks, scores, strict=True):
        mean = features[mask].mean(0)
        cosines = features[mask] @ (mean / np.linalg.norm(mean))
        assert score == pytest.approx(cosines.mean())
    again, _ = cluster_masks(features)
    assert np.array_equal(masks, again)


def test_place_parts_what_features_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = np.ones((4, 8, 1))
    masks, scores = cluster_masks(flat)
    assert len(masks) > NUMBERS[0] and np.allclose(scores, 1)
    monkeypatch.setattr(clustering, "PLACE_WEIGHT", 0.0)
    (whole,), _ = cluster_masks(flat)
    assert whole.all(), "nothing tells the patches apart"


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
def test_few_patches(size: tuple[int, int]) -> None:
    features = np.random.default_rng(1).normal(size=(*size, 3))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    masks, scores = cluster_masks(features)
    assert masks.shape[1:] == size and masks.any((1, 2)).all() and len(scores) == len(masks)
