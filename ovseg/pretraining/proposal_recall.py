"""Recall of proposals on the storybook's ground truth, from any source.

    python -m bench proposal_sources

Recall ignores classes and scores: it is computed from each ground-truth mask's best IoU with any
proposal, for single segments and for the union of a category's segments, seen and unseen.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.models.preprocessing import InputSize
from ovseg.models.proposal import ProposalNetwork
from ovseg.storybook.scenes import Scene

THRESHOLD = 0.5
INPUT_SIZE = InputSize(short_side=160, max_side=640)


def best_ious(masks_qhw: Tensor, scene: Scene) -> dict[tuple[str, str, int], float]:
    """Return the best IoU of every ground-truth mask of a scene with any proposal.

    Args:
        masks_qhw: (Q, H, W) float in [0, 1]; Q may be 0.
        scene: with its segments.

    Returns:
        IoUs by grain (`segment` or `category`), name of the category and number of the segment,
        which is 0 for a category's union.
    """
    truths: dict[tuple[str, str, int], NDArray[np.bool_]] = {}
    for segment in scene.segments:
        name = segment.category.name
        truths["segment", name, segment.id] = segment.mask
        union = truths.get(("category", name, 0), np.zeros_like(segment.mask))
        truths["category", name, 0] = union | segment.mask
    if not len(masks_qhw):
        return dict.fromkeys(truths, 0.0)
    proposed = (masks_qhw > THRESHOLD).flatten(1).float().cpu()
    true = torch.from_numpy(np.stack(list(truths.values()))).flatten(1).float()
    overlap = proposed @ true.T
    union_area = proposed.sum(1)[:, None] + true.sum(1)[None] - overlap
    found: list[float] = (overlap / union_area.clamp(min=1)).amax(0).tolist()
    return dict(zip(truths, found, strict=True))


def recall(
    best: Iterable[dict[tuple[str, str, int], float]], seen: Collection[str]
) -> dict[str, float]:
    """Aggregate the best IoUs of scenes into metrics such as `seen category/mean best IoU`.

    Args:
        best: one dict per scene, from `best_ious`.
        seen: names of the seen categories.
    """
    parts: dict[str, list[float]] = {}
    for scene in best:
        for (grain, name, _), iou in scene.items():
            part = "seen" if name in seen else "unseen"
            parts.setdefault(f"{part} {grain}", []).append(iou)
    metrics: dict[str, float] = {}
    for key in sorted(parts):
        metrics[f"{key}/recall at IoU 0.5"] = float(np.mean(np.array(parts[key]) >= 0.5))
        metrics[f"{key}/mean best IoU"] = float(np.mean(parts[key]))
    return metrics


def measure_proposals(
    network: ProposalNetwork, scenes: Iterable[Scene], *, seen: Collection[str]
) -> dict[str, float]:
    """Measure the recall of a source's proposals, their number and their duration.

    Args:
        network: the source.
        scenes: not trained on.
        seen: names of the seen categories.

    Returns:
        The metrics of `recall`, and the means per image of `masks` and `seconds`.
    """
    best, counts, seconds = [], [], []
    for scene in scenes:
        start = time.monotonic()
        (proposals,) = network.propose([scene.image], size=INPUT_SIZE)
        seconds.append(time.monotonic() - start)
        counts.append(len(proposals.scores))
        best.append(best_ious(proposals.masks, scene))
    return {
        "masks": float(np.mean(counts)),
        "seconds": float(np.mean(seconds)),
        **recall(best, seen),
    }
