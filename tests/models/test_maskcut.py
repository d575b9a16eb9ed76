"""Normalised cuts: eigenvector and value against written-out ones, regions of known features."""

import numpy as np
import pytest

from ovseg.models.proposals import maskcut as cutting
from ovseg.models.proposals.maskcut import TAU, WEAK, cut_masks, cut_value, second_eigenvector


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def blocks() -> tuple[np.ndarray, np.ndarray]:
    """A background with two squares of other directions, slightly noisy; and which is where."""
    labels = np.zeros((12, 16), dtype=int)
    labels[2:7, 3:8] = 1
    labels[6:10, 10:14] = 2
    noise = np.random.default_rng(0).normal(scale=0.05, size=(12, 16, 4))
    return unit(np.eye(4)[labels] + noise), labels


def test_the_eigenvector_is_that_of_a_dense_solver() -> None:
    features, _ = blocks()
    flat = features.reshape(-1, 4)[::3]
    weights = np.exp(flat @ flat.T)
    degree = np.diag(weights.sum(1))
    values, vectors = np.linalg.eig(np.linalg.inv(degree) @ (degree - weights))
    order = np.argsort(values.real)
    naive = vectors[:, order[1]].real
    ours = second_eigenvector(weights)
    np.testing.assert_allclose(
        np.abs(ours @ naive), np.linalg.norm(ours) * np.linalg.norm(naive), rtol=1e-9
    )
    residual = (degree - weights) @ ours - values.real[order[1]] * (degree @ ours)
    np.testing.assert_allclose(residual, 0, atol=1e-9)
    assert ours[np.abs(ours).argmax()] > 0, "the sign is settled"


def test_the_value_of_a_cut_is_the_sum_over_pairs() -> None:
    weights = np.random.default_rng(1).random((6, 6))
    weights += weights.T
    inside = np.array([True, False, True, True, False, False])
    between = sum(weights[i, j] for i in range(6) for j in range(6) if inside[i] > inside[j])
    first = sum(weights[i, j] for i in range(6) for j in range(6) if inside[i])
    second = sum(weights[i, j] for i in range(6) for j in range(6) if not inside[i])
    assert cut_value(weights, inside) == pytest.approx(between / first + between / second)


def test_known_regions_are_found_and_the_rest_is_the_background() -> None:
    features, labels = blocks()
    masks, scores = cut_masks(features)
    assert len(masks) == 3
    assert {mask.tobytes() for mask in masks} == {(labels == k).tobytes() for k in range(3)}
    assert np.array_equal(masks[-1], labels == 0), "what remains comes last"
    assert (scores > 0.99).all()


def test_masks_are_disjoint_and_whole_and_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "TAU", 0.6)
    monkeypatch.setattr(cutting, "MOST_CUTS", 5)
    features = unit(np.random.default_rng(2).normal(size=(7, 9, 3)))
    masks, scores = cut_masks(features)
    assert np.array_equal(masks.sum(0), np.ones((7, 9)))
    assert ((scores >= 0) & (scores <= 1)).all() and len(masks) <= 6
    again, _ = cut_masks(features)
    assert np.array_equal(masks, again)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (6, 6)])
def test_there_is_nothing_to_cut_where_all_is_alike(size: tuple[int, int]) -> None:
    masks, scores = cut_masks(np.ones((*size, 4)) / 2)
    assert masks.shape == (0, *size) and scores.shape == (0,)


def test_two_patches_are_cut_apart() -> None:
    masks, _ = cut_masks(np.eye(2)[None])
    assert sorted(mask.ravel().tolist() for mask in masks) == [[False, True], [True, False]]
    assert TAU > 0 > -WEAK
