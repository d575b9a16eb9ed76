"""Gradients of a batch computed in parts, with the loss of the whole batch.

A contrastive loss compares every region with every noun of the batch, so the losses of its parts do
not add up to it. For batches whose activations do not fit in memory, gradient caching (Gao et al.,
Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, RepL4NLP 2021) takes the
loss of all embeddings, computed without a graph, and then runs each part again with the gradient of
its embeddings. The graph of one part is in memory at a time; the sum is that of the whole batch, up
to rounding.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.stages.threads import idle_cores, with_fixed_threads

T = TypeVar("T")
Embed = Callable[[Tensor, Tensor], Tensor]
"""Maps pixels `(N, 3, S, S)` and masks `(N, S, S)` to embeddings `(N, E)`."""


class EmbeddedInParts:
    """The embeddings of a batch.

    On a CPU, a batch that is not cut into parts has two halves, each with a graph of its own, so
    that two cores can compute it. It is halved whatever the number of cores, and the order in which
    two sums of gradients are added does not matter, so the bytes are always the same.

    Args:
        embed: embeds regions, each independently of the others.
        pixels: `(N, 3, S, S)` float32.
        masks: `(N, S, S)` bool.
        parts: parts of the batch, of equal size except for the last; 1 keeps the graph of the
            whole batch.
        other: a thread for the second half, used if a core is idle; None computes one after the
            other.

    Attributes:
        embeddings: `(N, E)`, from which a loss is computed.
    """

    def __init__(
        self,
        embed: Embed,
        pixels: Tensor,
        masks: Tensor,
        *,
        parts: int,
        other: ThreadPoolExecutor | None = None,
    ) -> None:
        self._embed, self._other = embed, other
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._halves: list[Tensor] = []
        if parts > 1:
            self._parts = list(zip(pixels.chunk(parts), masks.chunk(parts), strict=True))
            with torch.no_grad():
                rows = [embed(*part) for part in self._parts]
        elif pixels.device.type == "cpu" and len(pixels) > 1:
            halves = zip(pixels.chunk(2), masks.chunk(2), strict=True)
            self._halves = of_both_halves(embed, list(halves), other)
            rows = [half.detach() for half in self._halves]
        else:
            self.embeddings = embed(pixels, masks)
            return
        self.embeddings = torch.cat(rows).requires_grad_()

    def backward(self) -> None:
        """Add the gradients of the parts, after the backward pass of the loss."""
        if not (self._parts or self._halves) or self.embeddings.grad is None:
            return
        if self._halves:
            if self._halves[0].requires_grad:  # else only texts are trained
                gradients = self.embeddings.grad.chunk(2)
                of_both_halves(
                    torch.autograd.backward, list(zip(self._halves, gradients)), self._other
                )
            return
        gradients = self.embeddings.grad.chunk(len(self._parts))
        for part, gradient in zip(self._parts, gradients, strict=True):
            again = self._embed(*part)
            if not again.requires_grad:
                return
            torch.autograd.backward(again, gradient)


def of_both_halves(
    call: Callable[[Tensor, Tensor], T],
    arguments: Sequence[tuple[Tensor, Tensor]],
    other: ThreadPoolExecutor | None,
) -> list[T]:
    """Return the results of two calls; the second runs in the other thread if a core is idle."""
    first, second = arguments
    if other is None or not idle_cores():
        return [call(*first), call(*second)]
    context = contextvars.copy_context()
    later = other.submit(context.run, with_fixed_threads, call, *second)
    return [call(*first), later.result()]


def set_checkpointing(model: MaskAdaptedCLIP, enabled: bool) -> None:
    """Keep the inputs of each block, or all activations, of both towers for the backward pass."""
    for transformer in (model.clip.visual.transformer, getattr(model.clip, "transformer", None)):
        if transformer is not None:
            transformer.grad_checkpointing = enabled
