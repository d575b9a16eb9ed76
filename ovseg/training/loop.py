"""The steps common to every training: group the parameters, take an optimizer step, repeat.

The CLIPs, the Mask2Former and the MaskFormer's class head are trained by one call of `fit` each;
resumable trainings
(`ovseg.training.clip.trainer`, `ovseg.training.segmentation.trainer`) keep a state between steps
and call `take_step` themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ovseg.errors import OvsegError

Batch = TypeVar("Batch")


def parameter_groups(
    parameters: Mapping[str, nn.Parameter],
    *,
    rate: Callable[[str], float],
    decay: Callable[[str, nn.Parameter], float],
) -> list[dict[str, Any]]:
    """Group parameters that share a learning rate and a weight decay.

    Args:
        parameters: the trained ones by name.
        rate: learning rate of a parameter when the schedule's factor is 1.
        decay: weight decay of a parameter.

    Returns:
        Groups for a torch optimizer, the largest decay first, none of them empty. `take_step`
        multiplies a group's `rate` by the schedule's factor; until then its `lr` is the same.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault((decay(name, parameter), rate(name)), []).append(parameter)
    return [
        {"params": group, "lr": lr, "rate": lr, "weight_decay": weight_decay}
        for (weight_decay, lr), group in sorted(groups.items(), reverse=True)
    ]


def decay_matrices(weight_decay: float) -> Callable[[str, nn.Parameter], float]:
    """Return a `decay` for `parameter_groups` that spares vectors and scalars."""
    return lambda _, parameter: weight_decay if parameter.ndim > 1 else 0.0


def cosine_learning_rate(step: int, *, base: float, warmup_steps: int, total_steps: int) -> float:
    """Return the learning rate of one optimizer step, as in open_clip and the official code.

    Args:
        step: index of the step, from 0.
        base: the peak.
        warmup_steps: number of steps in which the rate climbs linearly, `base * (step + 1) /
            warmup_steps`; a shorter training never reaches the peak.
        total_steps: steps of the whole training, warm-up included.

    Returns:
        The rate: `base` right after the warm-up, approaching 0 at `total_steps`.
    """
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * base


def warmup_poly(
    step: int, *, steps: int, warmup_steps: int, warmup_factor: float, power: float
) -> float:
    """Return the learning rate's factor at a step from 0: linear warm-up times (1 - t)^power."""
    warm = 1.0
    if step < warmup_steps:
        progress = step / warmup_steps
        warm = warmup_factor * (1 - progress) + progress
    return float(warm * (1 - step / steps) ** power)


def slow_down(learning_rate: float, warmup_steps: int) -> str:
    """Return the advice for a training that diverged with these settings."""
    return f"lower learning_rate ({learning_rate:g}) or raise warmup_steps ({warmup_steps})"


def finite_loss(loss: Tensor, *, step: int, advice: str = "lower its learning rate") -> float:
    """Return the value of a loss.

    Args:
        loss: scalar.
        step: index of the step, for the message.
        advice: what to do about a loss that is not finite.

    Raises:
        OvsegError: if the loss is not finite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise OvsegError(f"training diverged at step {step}: the loss is {value}; {advice}")
    return value


def take_step(
    loss: Tensor,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    factor: float,
    clip: Iterable[nn.Parameter] = (),
    clip_norm: float = math.inf,
    after_backward: Callable[[], object] | None = None,
) -> None:
    """Take one optimizer step.

    Args:
        loss: scalar with gradients.
        optimizers: with groups of `parameter_groups`.
        factor: factor on the learning rates at this step.
        clip: parameters whose gradients are clipped together; empty clips none.
        clip_norm: maximum L2 norm of their gradients.
        after_backward: adds gradients that the backward pass of the loss does not reach.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        optimizer.zero_grad()
    torch.autograd.backward(loss)
    if after_backward is not None:
        after_backward()
    if math.isfinite(clip_norm):
        nn.utils.clip_grad_norm_(clip, clip_norm)
    for optimizer in optimizers:
        optimizer.step()


def fit(
    batches: Iterable[Batch],
    loss_of: Callable[[Batch], Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    factor: Callable[[int], float],
    clip: Sequence[nn.Parameter],
    clip_norm: float = 1.0,
    after_step: Callable[[], object] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Take a step for each batch.

    Args:
        batches: arguments of `loss_of`, one per step.
        loss_of: the scalar loss of a batch, with gradients.
        optimizers: with groups of `parameter_groups`.
        factor: factor on the learning rates, by the index of the step.
        clip: parameters whose gradients are clipped together.
        clip_norm: maximum L2 norm of their gradients.
        after_step: called after each step, before `progress`.
        progress: called with the number of steps done and the loss.

    Returns:
        The loss of every step.

    Raises:
        OvsegError: if a loss is not finite.
    """
    losses: list[float] = []
    for step, batch in enumerate(batches):
        loss = loss_of(batch)
        losses.append(finite_loss(loss, step=step))
        take_step(loss, optimizers, factor=factor(step), clip=clip, clip_norm=clip_norm)
        if after_step is not None:
            after_step()
        if progress is not None:
            progress(step + 1, losses[-1])
    return losses
