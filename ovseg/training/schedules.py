"""Learning rates over the steps of a training."""

from __future__ import annotations

import math


def cosine_learning_rate(step: int, *, base: float, warmup_steps: int, total_steps: int) -> float:
    """Learning rate of one optimiser step, as open_clip and the official implementation have it.

    Args:
        step: index of the step, from 0.
        base: the peak.
        warmup_steps: the rate climbs linearly, `base * (step + 1) / warmup_steps`, this long; a
            training that is shorter never reaches the peak.
        total_steps: of the whole training, warm-up included.

    Returns:
        The rate; `base` right after the warm-up, towards 0 at `total_steps`.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * base


def warmup_poly(
    step: int, *, steps: int, warmup_steps: int, warmup_factor: float, power: float
) -> float:
    """Factor on the learning rate at a step counted from 0: linear warm-up times (1 - t)^power."""
    warm = 1.0
    if step < warmup_steps:
        progress = step / warmup_steps
        warm = warmup_factor * (1 - progress) + progress
    return float(warm * (1 - step / steps) ** power)
