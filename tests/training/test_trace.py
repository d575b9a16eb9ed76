"""Twenty steps of each phase lose what they lost when they were recorded.

The tolerance is for other machines, whose sums round in another order; every change of the recipe
that is tried here moves the losses more than five times as far.
"""

import json

import pytest
from loss_trace import PHASES, STEPS, TRACE, losses

TOLERANCE = 5e-5  # of each loss; two threads or no oneDNN move them by 2e-7
CHANGES = {
    "image_encoder": [
        {"learning_rate": 1.1e-3},
        {"warmup_steps": 6},
        {"beta2": 0.99},
        {"crop_scale": (0.8, 1.0)},
        {"loss": "distinct"},
        {"train_logit_scale": False},
        {"seed": 4},
    ],
    "mask_prompts": [
        {"learning_rate": 0.055},
        {"warmup_steps": 6},
        {"prompt_depth": 3},
        {"loss": "distinct"},
        {"prompt_weight_decay": 0.2},
        {"train_logit_scale": False},
    ],
}


def furthest(ours: list[float], theirs: list[float]) -> float:
    """The largest difference of two losses of one step, as a part of the loss."""
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[float]]:
    return json.loads(TRACE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("trains", PHASES)
def test_the_losses_are_the_recorded_ones(recorded, trains: str):
    assert len(recorded[trains]) == STEPS
    assert len({losses_of[0] for losses_of in recorded.values()}) == 2, "prompts take part"
    assert furthest(losses(trains), recorded[trains]) < TOLERANCE


@pytest.mark.parametrize(
    ("trains", "change"), [(trains, change) for trains in CHANGES for change in CHANGES[trains]]
)
def test_another_recipe_would_be_noticed(recorded, trains: str, change: dict[str, object]):
    assert furthest(losses(trains, **change), recorded[trains]) > 5 * TOLERANCE
