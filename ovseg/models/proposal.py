"""Masks of an image with their scores, and what proposes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ovseg.models.preprocessing import ImageArray, InputSettings


@dataclass(frozen=True)
class ProposalBatch:
    """Proposals of some images, one list entry an image.

    Attributes:
        mask_probabilities: (Q, h, w) float32 in [0, 1] at the size asked for.
        scores: (Q,) float32 in [0, 1]: how sure the network is that the query shows something.
        class_embeddings: (Q, E) float32, not normalised; None for a closed vocabulary.
        images: the resized images (h', w', 3) uint8 the network looked at, without padding.
        class_probabilities: (Q, K) float32, of the classes the network was trained on, or of the
            texts it was given; what is missing to 1 is *no object*. None without classes.
    """

    mask_probabilities: list[Tensor]
    scores: list[Tensor]
    class_embeddings: list[Tensor] | None
    images: list[ImageArray]
    class_probabilities: list[Tensor] | None = None


@dataclass(frozen=True)
class QueryPrediction:
    """What a network says of a batch of B images.

    Attributes:
        mask_logits: (B, Q, h, w).
        scores: (B, Q) in [0, 1].
        class_probabilities: (B, Q, K), see `ProposalBatch`.
        class_embeddings: (B, Q, E), or None.
    """

    mask_logits: Tensor
    scores: Tensor
    class_probabilities: Tensor
    class_embeddings: Tensor | None = None


@runtime_checkable
class ProposalNetwork(Protocol):
    """What mining and the segmentor ask of a network."""

    digest: str
    inputs: InputSettings

    def propose(
        self,
        images: Sequence[ImageArray],
        *,
        output: Literal["original", "resized"] = "original",
        short_side: int | None = None,
        max_side: int | None = None,
        text_embeddings: Tensor | None = None,
    ) -> ProposalBatch:
        """Masks of every query of every image; see `MaskFormerProposals.propose`."""


@runtime_checkable
class OpenVocabularyNetwork(ProposalNetwork, Protocol):
    """A network whose proposals have embeddings that any vocabulary's texts are compared with."""

    embedding_dim: int

    def class_logits(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(..., Q, K + 1) logits of proposals for a vocabulary; the last is *non-object*."""
