"""The base of proposal sources that process one image at a time: sizes and enlarging."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSettings, InputSize
from ovseg.models.proposal import Output, Proposals


class ImageProposals(ABC):
    """A `ProposalNetwork` that finds the masks of each image independently.

    Args:
        digest: digest of everything the masks depend on apart from the image.
        inputs: sizes; the pixel statistics are up to the source.
    """

    def __init__(self, *, digest: str, inputs: InputSettings | None = None) -> None:
        self.digest = digest
        self.inputs = inputs or InputSettings()

    @abstractmethod
    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Find the masks of one image and their scores.

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
        output: Output = "original",
        size: InputSize = OWN_SIZE,
    ) -> list[Proposals]:
        """See `ProposalNetwork`; there are no classes."""
        proposals = []
        for image in images:
            small = size.resize(image, self.inputs)
            shape = (image if output == "original" else small).shape
            masks, scores = self._sized(self.masks_of(small), shape)
            proposals.append(Proposals(image=small, masks=masks, scores=scores))
        return proposals

    @staticmethod
    def _sized(proposals: tuple[Tensor, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        masks_qhw, scores = proposals
        size = (shape[0], shape[1])
        if len(masks_qhw) and masks_qhw.shape[1:] != size:
            masks_qhw = F.interpolate(
                masks_qhw[None], size=size, mode="bilinear", align_corners=False
            )[0]
        return masks_qhw.reshape(len(masks_qhw), *size), scores


def region_masks(labels_hw: NDArray[np.int64], regions: Sequence[int]) -> Tensor:
    """Return masks (Q, h, w) float32, 0 or 1, of the given values of a map of regions."""
    values = np.asarray(regions, dtype=labels_hw.dtype)
    return torch.from_numpy(labels_hw[None] == values[:, None, None]).float()
