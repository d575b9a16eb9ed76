"""The proposals of an image, and the interface of networks that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSettings, InputSize

Output = Literal["original", "resized"]
"""Masks at the size of the image, or of the resized image that the network saw."""

COSINE_SCALE = 100.0
"""Factor on cosines before a softmax, for MaskFormer's class embeddings and CLIP's alike.

Fixed upstream: CLIP's learned logit scale is not used for inference.
"""


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The proposals of one image, from a network to the segmentor and mining.

    Attributes:
        image: `(h', w', 3)` uint8 RGB as the network saw it: resized, without padding.
        masks: `(Q, h, w)` float32 in 0..1 at the requested size; Q may be 0.
        scores: `(Q,)` float32 in 0..1, the network's confidence that a query shows an object; for
            a segmentor's proposals, that it shows one of its classes.
        class_probabilities: `(Q, K)` float32 of the classes the network was trained on, or of a
            segmentor's; the remainder to 1 is *no object*. None without classes.
        class_embeddings: `(Q, E)` float32, not normalized; None for a closed vocabulary.
    """

    image: ImageArray
    masks: Tensor
    scores: Tensor
    class_probabilities: Tensor | None = None
    class_embeddings: Tensor | None = None

    def at(self, places: Tensor) -> Proposals:
        """Select the proposals at the given places, `(R,)` int64."""
        of_class, embedded = self.class_probabilities, self.class_embeddings
        return replace(
            self,
            masks=self.masks[places],
            scores=self.scores[places],
            class_probabilities=None if of_class is None else of_class[places],
            class_embeddings=None if embedded is None else embedded[places],
        )


@runtime_checkable
class ProposalNetwork(Protocol):
    """A network as mining and the segmentor use it."""

    digest: str
    inputs: InputSettings

    def propose(
        self,
        images: Sequence[ImageArray],
        *,
        output: Output = "original",
        size: InputSize = OWN_SIZE,
    ) -> list[Proposals]:
        """Propose masks.

        Args:
            images: `(H_i, W_i, 3)` uint8 RGB; may be empty.
            output: whether masks have the size of the original or the resized images.
            size: overrides the network's own input size.

        Returns:
            One entry per image, in order.
        """


@runtime_checkable
class OpenVocabularyNetwork(ProposalNetwork, Protocol):
    """A network whose proposals have embeddings to compare with any vocabulary's texts."""

    embedding_dim: int

    def class_logits(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Return (..., Q, K + 1) logits of proposals for a vocabulary; the last is *non-object*."""
