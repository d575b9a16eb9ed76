"""Oracle baselines: replace one stage's output with ground truth, to see the other stage's error.

- `gt_masks`: the proposals are the ground-truth regions, one for each class in the image, at the
  original size; each gets CLIP's most probable class. The MaskFormer is not used. (The paper: 20.1
  mIoU of OpenAI's CLIP on ADE20K-150, 13.8 with the background left in the crops.)
- `gt_labels`: the proposals are the MaskFormer's, their classes come from ground truth: the class
  scores of a proposal (pixels above 0.5 at the original size, without ignored ones) are its IoUs
  with the regions of all classes, divided by their sum; they weight the soft masks as in inference.
  A proposal that overlaps no region has no say. (The paper: 66.5; its code for this is unpublished,
  so the recipe is that of the project it grew from.)
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.data.benchmarks.label_maps import Labels
from ovseg.models.ensemble import label_map, resized_maps

PROPOSAL_THRESHOLD = 0.5


def paint_regions(
    labels: Labels, classes: NDArray[np.int32], region_classes: Labels, empty: int
) -> Labels:
    """Paint the ground-truth regions with their predicted classes (oracle `gt_masks`).

    Args:
        labels: `(H, W)` ground truth.
        classes: `(N,)` the classes in it, ascending, as `region_masks` gives them.
        region_classes: `(N,)` the predicted class of each region.
        empty: the label of all other pixels.

    Returns:
        `(H, W)` int32.
    """
    painted = np.full(labels.shape, empty, dtype=np.int32)
    for given, called in zip(classes, region_classes):
        painted[labels == given] = called
    return painted


def label_proposals(masks_qhw: Tensor, labels: Labels, num_classes: int) -> Labels:
    """Make a label map of proposals whose classes come from ground truth (oracle `gt_labels`).

    Args:
        masks_qhw: `(Q, h, w)` float soft masks in 0..1, at any size.
        labels: `(H, W)` ground truth; labels other than 0..K-1 do not count.
        num_classes: K.

    Returns:
        `(H, W)` int32 classes; K where no proposal has a say.
    """
    height, width = labels.shape
    scores = oracle_scores(resized_maps(masks_qhw, (height, width)), labels, num_classes)
    mapped = label_map(scores, masks_qhw, (height, width), empty=num_classes)
    return mapped.cpu().numpy().astype(np.int32)


def oracle_scores(masks_qhw: Tensor, labels: Labels, num_classes: int) -> Tensor:
    """Score the classes of proposals by their overlap with ground truth.

    Args:
        masks_qhw: `(Q, H, W)` float soft masks in 0..1.
        labels: `(H, W)` ground truth.
        num_classes: K.

    Returns:
        `(Q, K)` float32, each row summing to 1, or to 0 for a proposal that overlaps no class.
    """
    truth = torch.as_tensor(np.asarray(labels).astype(np.int64), device=masks_qhw.device).flatten()
    counted = (truth >= 0) & (truth < num_classes)
    truth = truth[counted]
    inside = (masks_qhw > PROPOSAL_THRESHOLD).flatten(1)[:, counted]
    area = torch.bincount(truth, minlength=num_classes)
    overlap = torch.stack(
        [torch.bincount(truth[of_mask], minlength=num_classes) for of_mask in inside]
        or [area.new_zeros(num_classes)]
    )[: len(inside)]
    union = inside.sum(dim=1, keepdim=True) + area - overlap
    iou = overlap.float() / union.clamp(min=1)
    return iou / iou.sum(dim=1, keepdim=True).clamp(min=torch.finfo(iou.dtype).tiny)
