"""One-to-one matching of predicted to true masks, for `ovseg.training.segmentation.criterion`.

Costs are those of the paper's MaskFormer: class 1, mask (focal) 20, dice 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 2.0


@dataclass(frozen=True)
class Target:
    """The ground truth of one image.

    Attributes:
        labels: (N,) int64 in [0, K).
        masks: (N, H, W) bool or 0/1.
        valid: (H, W) bool; False for unknown pixels, where no mask is judged. None means that all
            are known, the paper's setting.
    """

    labels: Tensor
    masks: Tensor
    valid: Tensor | None = None


@dataclass(frozen=True)
class MatchingCosts:
    """Weights of the three terms of the assignment cost."""

    label: float = 1.0
    mask: float = 20.0
    dice: float = 1.0


def pairwise_focal(logits_qp: Tensor, targets_np: Tensor, weights_p: Tensor) -> Tensor:
    """Return the focal loss of every prediction and target, a mean over the weighted pixels.

    Args:
        logits_qp: (Q, P) float.
        targets_np: (N, P) float 0/1.
        weights_p: (P,) float, 1 where the pixel counts.

    Returns:
        (Q, N) float.
    """
    probability = logits_qp.sigmoid()
    # softplus(-x) and softplus(x) are the cross entropies of x against 1 and 0
    positive = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * F.softplus(-logits_qp)
    negative = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * F.softplus(logits_qp)
    inside = targets_np * weights_p
    outside = (1 - targets_np) * weights_p
    total = weights_p.sum().clamp(min=1)
    return (positive @ inside.T + negative @ outside.T) / total


def pairwise_dice(logits_qp: Tensor, targets_np: Tensor, weights_p: Tensor) -> Tensor:
    """Return the +1 smoothed dice loss of every prediction and target; shapes as above."""
    probability = logits_qp.sigmoid() * weights_p
    targets = targets_np * weights_p
    overlap = 2 * probability @ targets.T
    sizes = probability.sum(1)[:, None] + targets.sum(1)[None, :]
    return 1 - (overlap + 1) / (sizes + 1)


def cost_matrix(
    class_logits: Tensor, mask_logits: Tensor, target: Target, costs: MatchingCosts
) -> Tensor:
    """Return the cost of each query for each target, at the resolution of the predicted masks.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.
        target: the image's ground truth; its masks are resized to (h, w) by nearest neighbor.
        costs: weights of the terms.

    Returns:
        (Q, N) float.
    """
    size = mask_logits.shape[-2:]
    predictions = mask_logits.flatten(1)
    masks = _resized(target.masks, size).flatten(1).to(predictions)
    if target.valid is None:
        weights = torch.ones_like(predictions[0])
    else:
        weights = _resized(target.valid[None], size).flatten().to(predictions)
    return (
        costs.mask * pairwise_focal(predictions, masks, weights)
        - costs.label * class_logits.softmax(-1)[:, target.labels]
        + costs.dice * pairwise_dice(predictions, masks, weights)
    )


@torch.no_grad()
def match(
    class_logits: Tensor, mask_logits: Tensor, target: Target, costs: MatchingCosts
) -> tuple[Tensor, Tensor]:
    """Find the cheapest one-to-one assignment of one image's queries to its targets.

    Args:
        class_logits: (Q, K + 1) float.
        mask_logits: (Q, h, w) float.
        target: the image's ground truth.
        costs: weights of the terms.

    Returns:
        Query indices (ascending) and target indices, both (min(Q, N),) int64 on the CPU. With more
        targets than queries, the most expensive targets stay unmatched.
    """
    if len(target.labels) == 0:
        empty = torch.zeros(0, dtype=torch.int64)
        return empty, empty
    matrix = cost_matrix(class_logits.float(), mask_logits.float(), target, costs).cpu().numpy()
    # a diverged prediction fits nothing; the loss reports the divergence
    from scipy.optimize import linear_sum_assignment

    queries, targets = linear_sum_assignment(np.nan_to_num(matrix, nan=1e6))
    return torch.from_numpy(queries.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))


def _resized(masks_nhw: Tensor, size: torch.Size) -> Tensor:
    if masks_nhw.shape[-2:] == size:
        return masks_nhw
    return F.interpolate(masks_nhw[:, None].float(), size=size, mode="nearest")[:, 0]
