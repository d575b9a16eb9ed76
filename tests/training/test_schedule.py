"""The learning rate of every step."""

import json
import math

import pytest

from ovseg.training.loop import cosine_learning_rate


def rates(total: int, warmup: int, base: float = 1.0) -> list[float]:
    return [
        cosine_learning_rate(step, base=base, warmup_steps=warmup, total_steps=total)
        for step in range(total)
    ]


def test_warm_up_is_linear_and_reaches_the_peak():
    assert rates(20, 4)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_then_half_a_cosine():
    values = rates(12, 4, base=2.0)
    expected = [1 + math.cos(math.pi * k / 8) for k in range(8)]
    assert values[4:] == pytest.approx(expected)
    assert values[8] == pytest.approx(1.0)  # half-way


def test_it_peaks_right_after_the_warm_up_and_falls_to_zero():
    values = [
        cosine_learning_rate(step, base=1.0, warmup_steps=10, total_steps=100)
        for step in range(101)
    ]
    assert values[0] == pytest.approx(0.1) and values[9] == values[10] == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[100] == pytest.approx(0, abs=1e-12)


def test_without_warm_up_it_begins_at_the_peak():
    assert rates(4, 0)[0] == 1.0


def test_a_training_shorter_than_its_warm_up_only_climbs():
    assert rates(3, 10) == pytest.approx([0.1, 0.2, 0.3])


def test_a_training_as_long_as_its_warm_up_ends_at_the_peak():
    assert rates(3, 3)[-1] == 1.0


def test_the_recorded_rates(agrees, recording):
    recorded = json.loads(recording("clip_finetune_loss/results.json").read_text())
    expected = recorded["cosine_lr(base 5e-6, warmup 100, total 1000)"]
    every = rates(1000, 100, base=5e-6)
    ours = [every[int(step)] for step in expected]
    case = "clip_finetune_loss/schedule"
    agrees(case, "learning rates", ours, list(expected.values()), tolerance=1e-12)
