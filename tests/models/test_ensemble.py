"""The formulas of the ensemble, of class maps, and of the demo's one mask a class, by hand."""

import pytest
import torch
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models import ensemble as formulas
from ovseg.models.ensemble import aggregate, best_masks, ensemble, label_map

P_MASKFORMER = torch.tensor([[0.64, 0.16], [0.25, 0.49]])
P_CLIP = torch.tensor([[0.25, 0.81]])
VALID = torch.tensor([True, False])


def test_ensemble_by_hand():
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.5)
    assert taken.tolist() == [True, True]
    # valid: sqrt(p * q); invalid: sqrt(p * 1)
    expected = [[0.8 * 0.5, 0.4 * 0.9], [0.5, 0.7]]
    torch.testing.assert_close(scores, torch.tensor(expected))


def test_weight_zero_is_clip_alone_upstream_and_maskformer_alone_in_the_formula():
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.0)
    assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, 0.0, mode="geometric")
    assert torch.equal(scores, P_MASKFORMER) and taken.all()
    near, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, 1e-6)
    torch.testing.assert_close(near, scores, atol=1e-5, rtol=0)


def test_the_other_modes_ignore_the_weight():
    for weight in (0.0, 0.7):
        scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weight, mode="clip_only")
        assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
        scores, taken = ensemble(
            P_MASKFORMER,
            P_CLIP[:0],
            torch.zeros(2, dtype=torch.bool),
            weight,
            mode="maskformer_only",
        )
        assert torch.equal(scores, P_MASKFORMER) and taken.all()


def test_seen_classes_have_a_weight_of_their_own():
    weights = torch.tensor([0.2, 0.8])  # the first class is seen
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weights, mode="geometric")
    expected = [[0.64**0.8 * 0.25**0.2, 0.16**0.2 * 0.81**0.8], [0.25**0.8, 0.49**0.2]]
    torch.testing.assert_close(scores, torch.tensor(expected))
    assert taken.all()
    alike, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, torch.tensor([0.7, 0.7]))
    torch.testing.assert_close(alike, ensemble(P_MASKFORMER, P_CLIP, VALID, 0.7)[0])
    alone, _ = ensemble(P_MASKFORMER, P_CLIP, VALID, torch.zeros(2))
    assert torch.equal(alone, P_CLIP)
    with pytest.raises(ValueError, match="must be in 0"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, torch.tensor([0.2, 1.1]))


def test_the_void_ensemble_by_hand():
    weights = torch.tensor([0.4, 0.8])
    scores, taken = ensemble(P_MASKFORMER, P_CLIP, VALID, weights, mode="void")
    # of the first: P(object) is 0.8, inside it 0.8 and 0.2; the second shows CLIP nothing
    product = torch.tensor([0.8**0.6 * 0.25**0.4, 0.2**0.2 * 0.81**0.8])
    expected = torch.stack([0.8 * product / product.sum(), P_MASKFORMER[1]])
    torch.testing.assert_close(scores, expected)
    assert taken.all()
    nothing = torch.zeros(1, 2)
    silent, _ = ensemble(nothing, P_CLIP, torch.tensor([True]), 0.5, mode="void")
    assert torch.equal(silent, nothing)  # a proposal that shows nothing at all


def test_a_network_with_its_own_vocabulary_leaves_it_to_clip():
    scores, taken = ensemble(None, P_CLIP, VALID, 0.7)
    assert torch.equal(scores, P_CLIP) and taken.tolist() == [True, False]
    with pytest.raises(OvsegError, match="closed vocabulary"):
        ensemble(None, P_CLIP, VALID, 0.7, mode="maskformer_only")


def test_ensemble_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 rows of CLIP for 1 valid"):
        ensemble(P_MASKFORMER, P_MASKFORMER, VALID, 0.7)
    with pytest.raises(ValueError, match="must be in 0"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, 1.5)
    with pytest.raises(ValueError, match="mode must be one of"):
        ensemble(P_MASKFORMER, P_CLIP, VALID, 0.5, mode="arithmetic")


def test_aggregate_by_hand():
    masks = torch.tensor([[[1.0, 0.5]], [[0.0, 1.0]]])
    maps = aggregate(P_MASKFORMER, masks)
    torch.testing.assert_close(maps, torch.tensor([[[0.64, 0.57]], [[0.16, 0.57]]]))
    assert label_map(P_MASKFORMER, masks, (1, 2)).tolist() == [[0, 0]]  # the first of equals


@pytest.mark.parametrize("budget", [1, 1000, 2000, 10**9])
def test_label_map_in_chunks_of_classes_equals_the_plain_argmax(budget, monkeypatch):
    monkeypatch.setattr(formulas, "SCORE_BUDGET", budget)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(7, 23, generator=generator)
    scores[:, 9] = scores[:, 4]  # two classes that are equal everywhere
    masks = torch.rand(7, 12, 10, generator=generator)
    maps = F.interpolate(
        torch.einsum("qk,qhw->khw", scores, masks)[None], size=(25, 18), mode="bilinear"
    )[0]
    assert torch.equal(label_map(scores, masks, (25, 18)), maps.argmax(0))


def test_label_map_never_holds_all_classes(monkeypatch):
    widths = []
    plain = formulas.aggregate
    monkeypatch.setattr(
        formulas, "aggregate", lambda p, m: widths.append(p.shape[1]) or plain(p, m)
    )
    monkeypatch.setattr(formulas, "SCORE_BUDGET", 4000)
    label_map(torch.rand(3, 100), torch.rand(3, 10, 10), (20, 20))
    assert widths == [10] * 10


SCORES = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.6]])


def columns(*covered: tuple[int, ...], width: int = 4) -> torch.Tensor:
    """Masks of one row: 0.9 in these columns, 0.1 elsewhere."""
    masks = torch.full((len(covered), 1, width), 0.1)
    for mask, places in zip(masks, covered):
        mask[0, list(places)] = 0.9
    return masks


ALL = torch.ones(3, dtype=torch.bool)


def test_best_masks_by_hand():
    masks = columns((0, 1), (1, 2), (3,))
    scores, kept = best_masks(SCORES, masks, ALL, threshold=0.5)
    assert torch.equal(scores, SCORES[:2])  # class 0 chose the first, class 1 the second
    assert kept.tolist() == [[[1, 1, 0, 0]], [[0, 1, 1, 0]]]
    # the second is class 1's, but its own scores say class 0; the last column is under no mask
    assert label_map(scores, kept, (1, 4), empty=2).tolist() == [[0, 0, 0, 2]]
    assert label_map(scores, kept, (1, 4)).tolist() == [[0, 0, 0, 0]]
    alone, _ = best_masks(SCORES, masks, ALL, threshold=0.5, skip_last=True)
    assert torch.equal(alone, SCORES[:1])


def test_best_masks_are_valid_ones():
    masks, valid = columns((), (1, 2), (3,)), torch.tensor([False, True, True])
    scores, kept = best_masks(SCORES, masks, valid, threshold=0.5)
    assert torch.equal(scores, SCORES[1:2]) and kept.tolist() == [[[0, 1, 1, 0]]]
    scores, kept = best_masks(SCORES, masks, ~ALL, threshold=0.5)
    assert scores.shape == (0, 2) and kept.shape == (0, 1, 4)
