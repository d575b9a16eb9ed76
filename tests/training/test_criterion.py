"""Matcher and criterion: the recorded cases of the official implementation, and hand-made ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovseg.training.criterion import (
    LossWeights,
    Prediction,
    criterion,
    dice_loss,
    focal_loss,
)
from ovseg.training.matching import (
    MatchingCosts,
    Target,
    cost_matrix,
    match,
    pairwise_dice,
    pairwise_focal,
)

GOLDEN_CASES = [
    "standard",
    "one_image_without_targets",
    "no_targets_at_all",
    "more_targets_than_queries",
    "empty_target_mask",
    "eos0_ignore_index",
]


@pytest.fixture(scope="module")
def golden(reference_data: Path) -> Path:
    return reference_data / "golden" / "losses"


def _case(folder: Path, name: str):
    tensors = load_file(folder / f"{name}.safetensors")
    expected = json.loads((folder / "results.json").read_text())[name]
    images = range(expected["config"]["B"])
    targets = [Target(tensors[f"target{b}.labels"], tensors[f"target{b}.masks"]) for b in images]
    layers = [
        Prediction(
            tensors[f"{prefix}pred_logits"].clone().requires_grad_(),
            tensors[f"{prefix}pred_masks"].clone().requires_grad_(),
        )
        for prefix in ("", "aux0.", "aux1.")
    ]
    return tensors, expected, targets, layers


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_agrees_with_the_official_criterion(golden: Path, name: str) -> None:
    tensors, expected, targets, (last, *aux) = _case(golden, name)
    weights = LossWeights(non_object=expected["config"]["eos_coef"])

    result = criterion(last, aux, targets, weights=weights)
    result.total.backward()

    for term, value in expected["losses_unweighted"].items():
        assert result.terms[term].item() == pytest.approx(value, abs=2e-6, rel=1e-6), term
    assert result.total.item() == pytest.approx(expected["total_weighted"], rel=1e-6)
    expected_matches = [expected["indices_last"], *expected["indices_aux"]]
    assert [
        [[queries.tolist(), indices.tolist()] for queries, indices in layer]
        for layer in result.matches
    ] == expected_matches
    torch.testing.assert_close(
        last.class_logits.grad, tensors["grad.pred_logits"], atol=1e-7, rtol=1e-4
    )
    torch.testing.assert_close(
        last.mask_logits.grad, tensors["grad.pred_masks"], atol=1e-7, rtol=1e-4
    )


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_costs_agree_with_the_official_ones(golden: Path, name: str) -> None:
    tensors, _, targets, (last, *_) = _case(golden, name)
    for b, target in enumerate(targets):
        cost = cost_matrix(last.class_logits[b], last.mask_logits[b], target, MatchingCosts())
        recorded = tensors.get(f"cost{b}.total")
        if recorded is None:  # not recorded where there is nothing to match
            assert cost.shape[1] == 0
        else:
            torch.testing.assert_close(cost, recorded, atol=1e-5, rtol=1e-5)


def test_pairwise_and_row_losses_agree_with_the_official_functions(golden: Path) -> None:
    tensors = load_file(golden / "functions.safetensors")
    logits, targets, others = (tensors[key] for key in ("inputs", "targets", "targets2"))
    ones = torch.ones(logits.shape[1])
    torch.testing.assert_close(pairwise_dice(logits, others, ones), tensors["batch_dice_loss"])
    torch.testing.assert_close(
        pairwise_focal(logits, others, ones), tensors["batch_sigmoid_focal_loss"]
    )
    torch.testing.assert_close(
        focal_loss(logits, targets).sum() / 4, tensors["sigmoid_focal_loss.n4"]
    )
    torch.testing.assert_close(dice_loss(logits, targets).sum() / 4, tensors["dice_loss.n4"])


# --------------------------------------------------------------------------------------
# Hand-made cases


def _half_masks() -> torch.Tensor:
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, :, :4] = True
    masks[1, :, 4:] = True
    return masks


def test_match_finds_the_mask_that_fits() -> None:
    masks = _half_masks()
    logits = torch.where(masks.flip(0), 8.0, -8.0)
    queries, targets = match(
        torch.zeros(2, 4), logits, Target(torch.tensor([0, 1]), masks), MatchingCosts()
    )
    assert queries.tolist() == [0, 1]
    assert targets.tolist() == [1, 0]


def test_match_by_class_where_masks_tie() -> None:
    masks = _half_masks()[:1].repeat(2, 1, 1)
    class_logits = torch.tensor([[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]])
    target = Target(torch.tensor([0, 1]), masks)
    _, targets = match(class_logits, torch.zeros(2, 8, 8), target, MatchingCosts())
    assert targets.tolist() == [1, 0]


def test_match_of_nothing_is_empty() -> None:
    target = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8))
    queries, targets = match(torch.zeros(3, 4), torch.zeros(3, 8, 8), target, MatchingCosts())
    assert queries.shape == targets.shape == (0,)


def test_perfect_prediction_costs_almost_nothing() -> None:
    masks = _half_masks()
    target = Target(torch.tensor([0, 1]), masks)
    classes = torch.full((1, 2, 3), -40.0)
    classes[0, 0, 0] = classes[0, 1, 1] = 40.0
    prediction = Prediction(classes, torch.where(masks, 40.0, -40.0)[None])
    assert criterion(prediction, [], [target]).total.item() == pytest.approx(0, abs=1e-6)


def test_unknown_pixels_do_not_change_the_mask_losses() -> None:
    masks = _half_masks()[:1]
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[:, 4:] = False
    target = Target(torch.tensor([0]), masks, valid)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 8, 8, generator=generator)
    changed = logits.clone()
    changed[..., 4:] = 5.0
    classes = torch.zeros(1, 3, 2)
    first = criterion(Prediction(classes, logits), [], [target]).terms
    second = criterion(Prediction(classes, changed), [], [target]).terms
    for name in ("loss_mask", "loss_dice"):
        assert first[name].item() == pytest.approx(second[name].item(), abs=1e-7)
    known = criterion(Prediction(classes, changed), [], [Target(target.labels, masks)]).terms
    assert known["loss_mask"].item() > second["loss_mask"].item() + 0.1


def test_queries_on_unknown_pixels_can_be_spared_the_class_loss() -> None:
    masks = _half_masks()
    valid = masks[0]
    target = Target(torch.tensor([0]), masks[:1], valid)
    classes = torch.zeros(1, 2, 2, requires_grad=True)
    prediction = Prediction(classes, torch.where(masks, 9.0, -9.0)[None])
    criterion(prediction, [], [target], weights=LossWeights(spare_unknown=0.5)).total.backward()
    assert classes.grad[0, 0].abs().sum() > 0
    assert classes.grad[0, 1].abs().sum() == 0


def test_everything_spared_gives_zero_not_nan() -> None:
    target = Target(
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, 8, 8, dtype=torch.bool),
        torch.zeros(8, 8, dtype=torch.bool),
    )
    prediction = Prediction(torch.zeros(1, 2, 3), torch.full((1, 2, 8, 8), 9.0))
    result = criterion(prediction, [], [target], weights=LossWeights(spare_unknown=0.5))
    assert result.total.item() == 0


def test_targets_of_different_sizes_are_padded_with_nothing() -> None:
    small = Target(torch.tensor([0]), torch.ones(1, 4, 4, dtype=torch.bool))
    large = Target(torch.tensor([0]), torch.ones(1, 8, 8, dtype=torch.bool))
    inside = torch.full((1, 1, 2, 2), -40.0)
    inside[..., :1, :1] = 40.0
    prediction = Prediction(
        torch.zeros(2, 1, 2), torch.cat([inside, torch.full((1, 1, 2, 2), 40.0)])
    )
    padded = Target(torch.tensor([0]), torch.nn.functional.pad(small.masks, (0, 4, 0, 4)))
    terms = criterion(prediction, [], [small, large]).terms
    by_hand = criterion(prediction, [], [padded, large]).terms
    assert terms["loss_mask"].item() == pytest.approx(by_hand["loss_mask"].item())
    assert terms["loss_dice"].item() == pytest.approx(by_hand["loss_dice"].item())


def test_wrong_number_of_targets_is_refused() -> None:
    prediction = Prediction(torch.zeros(2, 1, 2), torch.zeros(2, 1, 4, 4))
    with pytest.raises(ValueError, match="1 targets for a batch of 2"):
        criterion(prediction, [], [Target(torch.tensor([0]), torch.ones(1, 4, 4))])
