"""Classical superpixels as proposals: SLIC and Felzenszwalb's graph cuts, from scikit-image.

Nothing is learned or loaded. Every superpixel has a score of 1, because none is more of an object
than another.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic
from torch import Tensor

from ovseg.files.digests import digest_json
from ovseg.models.preprocessing import ImageArray
from ovseg.models.proposals.per_image import ImageProposals, region_masks

SLIC_SEGMENTS = 48
SLIC_COMPACTNESS = 10.0
SLIC_SIGMA = 1.0
FELZENSZWALB_SCALE = 200.0
FELZENSZWALB_SIGMA = 0.8
SMALLEST_FRACTION = 1 / 400
"""Felzenszwalb: smaller regions are merged with their neighbors."""
MOST = 100
"""Maximum number of masks per image, as many as a network's queries; the largest are kept."""


def slic_regions(image: ImageArray) -> NDArray[np.int64]:
    """Cut by SLIC (Achanta et al., 2012): k-means in color and position, similar regions."""
    regions: NDArray[np.int64] = slic(
        image,
        n_segments=SLIC_SEGMENTS,
        compactness=SLIC_COMPACTNESS,
        sigma=SLIC_SIGMA,
        start_label=0,
        channel_axis=-1,
    ).astype(np.int64)
    return regions


def felzenszwalb_regions(image: ImageArray) -> NDArray[np.int64]:
    """Cut by Felzenszwalb and Huttenlocher (2004): regions that differ more outside than inside."""
    regions: NDArray[np.int64] = felzenszwalb(
        image,
        scale=FELZENSZWALB_SCALE,
        sigma=FELZENSZWALB_SIGMA,
        min_size=max(1, round(image.shape[0] * image.shape[1] * SMALLEST_FRACTION)),
        channel_axis=-1,
    ).astype(np.int64)
    return regions


ALGORITHMS: dict[str, Callable[[ImageArray], NDArray[np.int64]]] = {
    "slic": slic_regions,
    "felzenszwalb": felzenszwalb_regions,
}
"""Functions that cut an image (H, W, 3) into regions (H, W), by name of the proposal source."""


class Superpixels(ImageProposals):
    """The regions of one algorithm, largest first.

    Args:
        algorithm: a key of `ALGORITHMS`.
    """

    def __init__(self, algorithm: str) -> None:
        parameters = [
            [SLIC_SEGMENTS, SLIC_COMPACTNESS, SLIC_SIGMA],
            [FELZENSZWALB_SCALE, FELZENSZWALB_SIGMA, SMALLEST_FRACTION],
            MOST,
        ]
        super().__init__(digest=digest_json([algorithm, parameters])[:16])
        self.regions = ALGORITHMS[algorithm]

    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """See `ImageProposals`."""
        labels = self.regions(image)
        areas = np.bincount(labels.ravel())
        order = np.argsort(-areas, kind="stable")[:MOST]
        masks_qhw = region_masks(labels, order[areas[order] > 0].tolist())
        return masks_qhw, torch.ones(len(masks_qhw))


def load_slic(weights: str, device: str) -> Superpixels:
    """Return SLIC's superpixels, which need neither argument."""
    return Superpixels("slic")


def load_felzenszwalb(weights: str, device: str) -> Superpixels:
    """Return Felzenszwalb's superpixels, which need neither argument."""
    return Superpixels("felzenszwalb")
