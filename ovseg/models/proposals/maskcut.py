"""Self-supervised proposals: repeated normalized cuts of an image's patches, as in MaskCut.

The graph connects patches with similar features (TokenCut, Wang et al., 2022); its second
eigenvector splits it (Shi and Malik, 2000); the object found is masked out and the rest is cut
again (CutLER, Wang et al., 2023). The published post-processing by a CRF is omitted: edges follow
the patches. The uncut remainder is a proposal too, because a segmentor needs stuff as well as
things.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import label as connected
from torch import Tensor

from ovseg.files.digests import digest_json
from ovseg.models.preprocessing import ImageArray
from ovseg.models.proposals.patch_features import PatchFeatures, load_patch_features, patches_of
from ovseg.models.proposals.per_image import ImageProposals

MOST_CUTS = 12
TAU = 0.5
"""Cosine above which two patches are connected."""
WEAK = 1e-5
"""Weight of an unconnected pair, which keeps the graph connected (TokenCut)."""


def second_eigenvector(weights_nn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the second smallest solution (N,) of `(D - W) y = lambda D y`; N is at least 2.

    Args:
        weights_nn: symmetric, positive.
    """
    degree = weights_nn.sum(1)
    scale = 1 / np.sqrt(degree)
    laplacian = np.eye(len(degree)) - scale[:, None] * weights_nn * scale[None]
    _, vectors = eigh(laplacian, subset_by_index=[1, 1])
    solution: NDArray[np.float64] = scale * vectors[:, 0]
    # the sign with which the largest entry is positive
    return solution if solution[np.abs(solution).argmax()] > 0 else -solution


def cut_value(weights_nn: NDArray[np.float64], inside: NDArray[np.bool_]) -> float:
    """Return the normalized cut of a set and the rest: 0 if unconnected, at most 2."""
    between = weights_nn[inside][:, ~inside].sum()
    volumes = weights_nn[inside].sum(), weights_nn[~inside].sum()
    return float(sum(between / volume for volume in volumes if volume > 0))


def cut_masks(features_hwc: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Cut regions off a map of features one after the other, and add the rest.

    Args:
        features_hwc: (h, w, C), each of length 1.

    Returns:
        (Q, h, w) disjoint bool masks that cover all patches, and (Q,) scores in [0, 1]: 1 minus
        half the normalized cut; for the rest, its cut against everything else. If no two patches
        differ by more than `TAU`, there is nothing to cut and no mask.
    """
    height, width, channels = features_hwc.shape
    features = features_hwc.reshape(-1, channels)
    weights = np.where(features @ features.T > TAU, 1.0, WEAK)
    free = np.ones(height * width, dtype=np.bool_)
    masks: list[NDArray[np.bool_]] = []
    scores: list[float] = []
    for _ in range(MOST_CUTS):
        places = free.nonzero()[0]
        graph = weights[np.ix_(places, places)]
        if len(places) < 2 or graph.min() > WEAK:
            break  # all remaining patches are similar
        vector = second_eigenvector(graph)
        mask = _object(vector, places, (height, width))
        scores.append(1 - cut_value(graph, mask[places]) / 2)
        masks.append(mask)
        free &= ~mask
    if masks and free.any():
        masks.append(free)
        scores.append(1 - cut_value(weights, free) / 2)
    masks_qn = np.array(masks).reshape(len(masks), height, width)
    return masks_qn, np.array(scores)


def _object(
    vector: NDArray[np.float64], places: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return one side of a cut, connected to its most extreme patch, (h * w,) bool."""
    height, width = size
    above = vector > vector.mean()
    side = above if above[np.abs(vector).argmax()] else ~above
    corners = np.isin(places, [0, width - 1, (height - 1) * width, height * width - 1])
    if side[corners].sum() >= 3:  # of the image's four corners: this is the background
        side = ~side
    if not side.any():  # equal entries: none is above the mean
        side = ~side
    mask = np.zeros(height * width, dtype=np.bool_)
    mask[places[side]] = True
    seed = places[side][np.abs(vector[side]).argmax()]
    parts, _ = connected(mask.reshape(size))
    part: NDArray[np.bool_] = parts.ravel() == parts.ravel()[seed]
    return part


class MaskCut(ImageProposals):
    """Normalized cuts of an image's patches; masks at the grid of patches, enlarged bilinearly.

    Args:
        features: network that embeds the patches.
    """

    def __init__(self, features: PatchFeatures) -> None:
        parameters = [MOST_CUTS, TAU, WEAK]
        super().__init__(digest=digest_json(["maskcut", features.digest, parameters])[:16])
        self.features = features

    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """See `ImageProposals`."""
        masks_qhw, scores = cut_masks(self.features.of(image).double().cpu().numpy())
        return torch.from_numpy(masks_qhw).float(), torch.from_numpy(scores).float()


def load_maskcut(weights: str, device: str) -> MaskCut:
    """Load cuts of patches by name of weights; see `ovseg.models.proposals.proposers`."""
    return MaskCut(load_patch_features(patches_of(weights), device))
