"""What proposal sources that look at one image at a time have in common: sizes, and enlarging."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ovseg.models.preprocessing import ImageArray, InputSettings, resize_shortest_edge
from ovseg.models.proposal import ProposalBatch


class ImageProposals(ABC):
    """A `ProposalNetwork` that finds the masks of an image whatever images come with it.

    Args:
        digest: of all that the masks depend on beside the image.
        inputs: sizes; the pixels' statistics are the source's own business.
    """

    def __init__(self, *, digest: str, inputs: InputSettings | None = None) -> None:
        self.digest = digest
        self.inputs = inputs or InputSettings()

    @abstractmethod
    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Masks and scores of one image.

        Args:
            image: (h', w', 3) uint8 RGB, resized.

        Returns:
            (Q, h, w) float32 in [0, 1] at any size, and (Q,) in [0, 1]; Q may be 0.
        """

    @torch.inference_mode()
    def propose(
        self,
        images: Sequence[ImageArray],
        *,
        output: Literal["original", "resized"] = "original",
        short_side: int | None = None,
        max_side: int | None = None,
        text_embeddings: Tensor | None = None,
    ) -> ProposalBatch:
        """See `ProposalNetwork`; there are no classes, so that texts change nothing."""
        short_side = short_side or self.inputs.short_side
        max_side = max_side or self.inputs.max_side
        resized = [resize_shortest_edge(image, short_side, max_side) for image in images]
        found = [
            self._sized(self.masks_of(small), (image if output == "original" else small).shape)
            for image, small in zip(images, resized, strict=True)
        ]
        return ProposalBatch(
            mask_probabilities=[masks for masks, _ in found],
            scores=[scores for _, scores in found],
            class_embeddings=None,
            images=resized,
        )

    @staticmethod
    def _sized(found: tuple[Tensor, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        masks_qhw, scores = found
        size = (shape[0], shape[1])
        if len(masks_qhw) and masks_qhw.shape[1:] != size:
            masks_qhw = F.interpolate(
                masks_qhw[None], size=size, mode="bilinear", align_corners=False
            )[0]
        return masks_qhw.reshape(len(masks_qhw), *size), scores


def region_masks(labels_hw: NDArray[np.int64], regions: Sequence[int]) -> Tensor:
    """Masks (Q, h, w) float32, 0 or 1, of the given values of a map of regions."""
    values = np.asarray(regions, dtype=labels_hw.dtype)
    return torch.from_numpy(labels_hw[None] == values[:, None, None]).float()
