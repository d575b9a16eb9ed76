"""The proposals of an image, and the networks that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSettings, InputSize

Output = Literal["original", "resized"]
"""Masks at the size of the image, or at that of the resized one the network looked at."""

COSINE_SCALE = 100.0
"""Factor of cosines before a softmax, of MaskFormer's class embeddings and of CLIP's alike.

Fixed upstream: CLIP's learned logit scale is not used for inference.
"""


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """The proposals of one image, from a network to the segmentor and mining.

    Attributes:
        image: `(h', w', 3)` uint8 RGB, what the network looked at: resized, without padding.
        masks: `(Q, h, w)` float32 in 0..1 at the size asked for; Q may be 0.
        scores: `(Q,)` float32 in 0..1, how sure the network is that a query shows something; of a
            segmentor's proposals, any of its classes.
        class_probabilities: `(Q, K)` float32 of the classes the network was trained on, or of a
            segmentor's; what is missing to 1 is *no object*. None without classes.
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
    """What mining and the segmentor ask of a network."""

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
            images: `(H_i, W_i, 3)` uint8 RGB; none is fine.
            output: give masks at the size of the given or of the resized images.
            size: overrides the network's own input size.

        Returns:
            One entry an image, in order.
        """


@runtime_checkable
class OpenVocabularyNetwork(ProposalNetwork, Protocol):
    """A network whose proposals have embeddings that any vocabulary's texts are compared with."""

    embedding_dim: int

    def class_logits(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """(..., Q, K + 1) logits of proposals for a vocabulary; the last is *non-object*."""
