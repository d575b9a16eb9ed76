"""Matcher and criterion: the recorded cases of the official implementation, and hand-made ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ovseg.training.segmentation.criterion import (
    LossWeights,
    Prediction,
    criterion,
    dice_loss,
    focal_loss,
)
from ovseg.training.segmentation.matching import (
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
EXACT = 1e-6
COSTS = {
    "total": MatchingCosts(),
    "class": MatchingCosts(label=1, mask=0, dice=0),
    "mask": MatchingCosts(label=0, mask=1, dice=0),
    "dice": MatchingCosts(label=0, mask=0, dice=1),
}


GOLDEN = Path(__file__).parent.parent / "golden" / "losses"  # the smaller recordings


@pytest.fixture
def recording(request: pytest.FixtureRequest):
    """Where a recording of the criterion is: beside the tests, or in the reference data."""

    def find(name: str) -> Path:
        if (GOLDEN / name).is_file():
            return GOLDEN / name
        return request.getfixturevalue("reference_data") / "golden" / "losses" / name

    return find


def _case(recording, name: str):
    tensors = load_file(recording(f"{name}.safetensors"))
    expected = json.loads(recording("results.json").read_text())[name]
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


def test_every_recorded_case_is_compared(recording) -> None:
    assert set(json.loads(recording("results.json").read_text())) == set(GOLDEN_CASES)


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_agrees_with_the_official_criterion(recording, name: str, agrees) -> None:
    case = f"losses/{name}"
    tensors, expected, targets, (last, *aux) = _case(recording, name)
    weights = LossWeights(non_object=expected["config"]["eos_coef"])

    result = criterion(last, aux, targets, weights=weights)
    result.total.backward()

    expected_matches = [expected["indices_last"], *expected["indices_aux"]]
    found = [
        [[queries.tolist(), indices.tolist()] for queries, indices in layer]
        for layer in result.matches
    ]
    agrees(case, "matches", str(found), str(expected_matches), tolerance=0)
    terms = expected["losses_unweighted"]
    assert set(result.terms) == set(terms)
    mine = torch.stack([result.terms[term].detach() for term in terms])
    agrees(case, "losses", mine, torch.tensor(list(terms.values())), tolerance=EXACT)
    total = torch.tensor(expected["total_weighted"])
    agrees(case, "total loss", result.total.detach(), total, tolerance=EXACT)
    for what, gradient in (("logits", last.class_logits.grad), ("masks", last.mask_logits.grad)):
        recorded = tensors[f"grad.pred_{what}"]
        agrees(case, f"gradient of the {what}", gradient, recorded, tolerance=1e-5)


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_costs_agree_with_the_official_ones(recording, name: str, agrees) -> None:
    tensors, _, targets, (last, *_) = _case(recording, name)
    for b, target in enumerate(targets):
        for part, costs in COSTS.items():
            with torch.no_grad():
                cost = cost_matrix(last.class_logits[b], last.mask_logits[b], target, costs)
            recorded = tensors[f"cost{b}.{part}"]
            agrees(f"losses/{name}", f"matching cost, {part}", cost, recorded, tolerance=EXACT)


def test_pairwise_and_row_losses_agree_with_the_official_functions(recording, agrees) -> None:
    tensors = load_file(recording("functions.safetensors"))
    logits, targets, others = (tensors[key] for key in ("inputs", "targets", "targets2"))
    ones = torch.ones(logits.shape[1])
    found = {
        "batch_dice_loss": pairwise_dice(logits, others, ones),
        "batch_sigmoid_focal_loss": pairwise_focal(logits, others, ones),
        "sigmoid_focal_loss.n4": focal_loss(logits, targets).sum() / 4,
        "dice_loss.n4": dice_loss(logits, targets).sum() / 4,
    }
    for name, ours in found.items():
        agrees("losses/functions", name, ours, tensors[name], tolerance=EXACT)


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
