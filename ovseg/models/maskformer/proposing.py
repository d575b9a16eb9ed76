"""Proposal networks: scored class-agnostic masks from a MaskFormer of either kind.

`ClosedMaskFormer` wraps a `transformers` checkpoint, `OpenMaskFormer` the class-embedding network.
`ovseg.models.maskformer.load` loads them by name; `ovseg.models.proposals.proposers` also loads
other networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.preprocessing import (
    OWN_SIZE,
    ImageArray,
    InputSettings,
    InputSize,
    mask_probabilities,
    pad_batch,
    padded_shape,
)
from ovseg.models.proposal import Output, Proposals


@dataclass(frozen=True)
class QueryPrediction:
    """A network's predictions for a batch of B images.

    Attributes:
        mask_logits: (B, Q, h, w).
        scores: (B, Q) in [0, 1].
        class_probabilities: (B, Q, K), see `Proposals`.
        class_embeddings: (B, Q, E), or None.
    """

    mask_logits: Tensor
    scores: Tensor
    class_probabilities: Tensor
    class_embeddings: Tensor | None = None


class MaskFormerProposals(ABC):
    """Pre- and post-processing common to both kinds of network.

    Args:
        network: the module; put into evaluation mode.
        inputs: how pixels are prepared.
        digest: content hash of weights and settings.
        device: where it runs.
    """

    def __init__(
        self, network: nn.Module, *, inputs: InputSettings, digest: str, device: torch.device
    ) -> None:
        self.network = network.eval().to(device)
        self.inputs = inputs
        self.digest = digest
        self.device = device

    @abstractmethod
    def predict(self, pixels_nchw: Tensor) -> QueryPrediction:
        """Predict masks, scores and classes of every query for a batch of prepared pixels."""

    @torch.inference_mode()
    def propose(
        self,
        images: Sequence[ImageArray],
        *,
        output: Output = "original",
        size: InputSize = OWN_SIZE,
    ) -> list[Proposals]:
        """Propose the mask of every query of every image; see `ProposalNetwork`.

        Only images with the same padded size share a forward pass, because attention includes the
        padding and an image's proposals must not depend on its neighbors in a batch.
        """
        resized = [size.resize(image, self.inputs) for image in images]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(resized):
            groups.setdefault(padded_shape([image]), []).append(index)
        proposals: dict[int, Proposals] = {}
        for indices in groups.values():
            pixels = pad_batch(
                [resized[i] for i in indices], self.inputs.mean, self.inputs.std, self.device
            )
            prediction = self.predict(pixels)
            embeddings = prediction.class_embeddings
            for row, i in enumerate(indices):
                target = images[i] if output == "original" else resized[i]
                proposals[i] = Proposals(
                    image=resized[i],
                    masks=mask_probabilities(
                        prediction.mask_logits[row],
                        pixels.shape[-2:],
                        resized[i].shape[:2],
                        target.shape[:2],
                    ),
                    scores=prediction.scores[row],
                    class_probabilities=prediction.class_probabilities[row],
                    class_embeddings=None if embeddings is None else embeddings[row],
                )
        return [proposals[i] for i in range(len(images))]


class ClosedMaskFormer(MaskFormerProposals):
    """A `transformers` MaskFormer or Mask2Former; a score is the best class's probability."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of its K classes, from its configuration."""
        config: Any = self.network.config
        labels: dict[int, str] = config.id2label
        return tuple(labels[index] for index in sorted(labels))

    def predict(self, pixels_nchw: Tensor) -> QueryPrediction:
        """See the base class; the last column of the logits is *no object*."""
        out = self.network(pixels_nchw)
        classes = out.class_queries_logits.softmax(-1)[..., :-1]
        return QueryPrediction(out.masks_queries_logits, classes.amax(-1), classes)


class OpenMaskFormer(MaskFormerProposals):
    """The class-embedding MaskFormer; a proposal's score is 1 - P(non-object).

    Args:
        network: the module.
        class_names: names of the K classes it was trained on.
        text_embeddings: (K, E) their embeddings, so that scoring needs no text encoder.
        inputs: how pixels are prepared.
        digest: content hash of weights and settings.
        device: where it runs.
    """

    network: OpenVocabularyMaskFormer

    def __init__(
        self,
        network: OpenVocabularyMaskFormer,
        *,
        class_names: Sequence[str],
        text_embeddings: Tensor,
        inputs: InputSettings,
        digest: str,
        device: torch.device,
    ) -> None:
        super().__init__(network, inputs=inputs, digest=digest, device=device)
        self.class_names = tuple(class_names)
        self.text_embeddings = text_embeddings.to(device)

    @property
    def embedding_dim(self) -> int:
        """Width of the class embeddings and of the texts it was trained with."""
        return self.network.architecture.embedding_dim

    def predict(self, pixels_nchw: Tensor) -> QueryPrediction:
        """See the base class."""
        out = self.network(pixels_nchw)
        classes = self.class_logits(out.class_embeddings, self.text_embeddings).softmax(-1)
        return QueryPrediction(
            out.mask_logits, 1 - classes[..., -1], classes[..., :-1], out.class_embeddings
        )

    def class_logits(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Return (..., Q, K + 1) logits of proposals for a vocabulary; the last is *non-object*."""
        return self.network.class_logits(class_embeddings, text_embeddings.to(self.device))
