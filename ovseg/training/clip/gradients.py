"""Gradients of batches whose activations do not fit in memory, with the loss of the whole batch.

A contrastive loss compares every region with every noun of the batch, so the losses of its parts do
not add up to it. Gradient caching (Gao et al., Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup, RepL4NLP 2021) takes the loss of all embeddings, computed without a graph,
and then runs each part again with the gradient of its embeddings. The graph of one part is in
memory at a time; the sum is that of the whole batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP

Embed = Callable[[Tensor, Tensor], Tensor]
"""Maps pixels `(N, 3, S, S)` and masks `(N, S, S)` to embeddings `(N, E)`."""


class EmbeddedInParts:
    """The embeddings of a batch.

    Args:
        embed: embeds regions, each independently of the others.
        pixels: `(N, 3, S, S)` float32.
        masks: `(N, S, S)` bool.
        parts: parts of the batch, of equal size except for the last; 1 keeps the graph of the
            whole batch.

    Attributes:
        embeddings: `(N, E)`, from which a loss is computed.
    """

    def __init__(self, embed: Embed, pixels: Tensor, masks: Tensor, *, parts: int) -> None:
        self._embed = embed
        self._parts: list[tuple[Tensor, Tensor]] = []
        if parts == 1:
            self.embeddings = embed(pixels, masks)
            return
        self._parts = list(zip(pixels.chunk(parts), masks.chunk(parts), strict=True))
        with torch.no_grad():
            rows = [embed(*part) for part in self._parts]
        self.embeddings = torch.cat(rows).requires_grad_()

    def backward(self) -> None:
        """Add the gradients of the parts, after the backward pass of the loss."""
        if not self._parts or self.embeddings.grad is None:
            return
        gradients = self.embeddings.grad.chunk(len(self._parts))
        for part, gradient in zip(self._parts, gradients, strict=True):
            again = self._embed(*part)
            if not again.requires_grad:  # only texts are trained
                return
            torch.autograd.backward(again, gradient)


def set_checkpointing(model: MaskAdaptedCLIP, enabled: bool) -> None:
    """Keep the inputs of each block, or all activations, of both towers for the backward pass."""
    for transformer in (model.clip.visual.transformer, getattr(model.clip, "transformer", None)):
        if transformer is not None:
            transformer.grad_checkpointing = enabled
