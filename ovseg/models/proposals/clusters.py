"""Clusters of patch features as proposals: k-means at several k over one image's patches.

Features come from a CLIP, or from any vision transformer that
`ovseg.models.proposals.patch_features` supports. A small term for a patch's position keeps clusters
together. A mask's score is its cohesion: the mean cosine of its patches with their mean.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from ovseg.files.digests import digest_json
from ovseg.models.preprocessing import ImageArray
from ovseg.models.proposals.patch_features import PatchFeatures, load_patch_features, patches_of
from ovseg.models.proposals.per_image import ImageProposals

NUMBERS = (4, 8, 16)
"""Numbers of clusters; the masks of all of them are proposed."""
PLACE_WEIGHT = 0.3
"""Factor on a patch's coordinates, which are in -1..1; features have length 1."""
ITERATIONS = 30
SEED = 0


def cluster_masks(
    features_hwc: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Cluster a map of features.

    Args:
        features_hwc: (h, w, C), each of length 1.

    Returns:
        (Q, h, w) distinct bool masks, and (Q,) scores in [0, 1].
    """
    height, width, channels = features_hwc.shape
    features = features_hwc.reshape(-1, channels)
    rows, columns = np.meshgrid(_places(height), _places(width), indexing="ij")
    points = np.column_stack(
        [features, PLACE_WEIGHT * rows.ravel(), PLACE_WEIGHT * columns.ravel()]
    )
    distinct_masks: dict[bytes, NDArray[np.bool_]] = {}
    distinct = len(np.unique(points, axis=0))
    for number in NUMBERS:
        # k-means++ never draws a point twice, so it needs as many distinct points
        of = kmeans2(
            points, min(number, distinct), iter=ITERATIONS, minit="++", rng=SEED, missing="warn"
        )[1]
        for cluster in np.unique(of):
            mask = of == cluster
            distinct_masks.setdefault(mask.tobytes(), mask)
    masks_qn = np.array(list(distinct_masks.values()))
    scores = [np.linalg.norm(features[mask].mean(0)) for mask in masks_qn]
    return masks_qn.reshape(-1, height, width), np.clip(scores, 0, 1)


def _places(count: int) -> NDArray[np.float64]:
    return np.linspace(-1, 1, count) if count > 1 else np.zeros(1)


class FeatureClusters(ImageProposals):
    """Clusters of an image's patches; masks at the grid of patches, enlarged bilinearly.

    Args:
        features: network that embeds the patches.
    """

    def __init__(self, features: PatchFeatures) -> None:
        parameters = [NUMBERS, PLACE_WEIGHT, ITERATIONS, SEED]
        super().__init__(digest=digest_json(["clusters", features.digest, parameters])[:16])
        self.features = features

    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """See `ImageProposals`."""
        masks_qhw, scores = cluster_masks(self.features.of(image).double().cpu().numpy())
        return torch.from_numpy(masks_qhw).float(), torch.from_numpy(scores).float()


def load_clusters(weights: str, device: str) -> FeatureClusters:
    """Load clusters of patches by name of weights; see `ovseg.models.proposals.proposers`."""
    return FeatureClusters(load_patch_features(patches_of(weights), device))
