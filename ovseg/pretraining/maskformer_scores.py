"""Scores of a compact MaskFormer: recall of its proposals, mIoU of its branch alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.evaluation.metrics import Confusion, segmentation_scores
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.proposal import Proposals
from ovseg.pretraining.proposal_recall import best_ious, recall
from ovseg.storybook.categories import CATEGORIES
from ovseg.storybook.scenes import Scene, draw_scene
from ovseg.storybook.world import scene_seeds

SIZE = 160
VALIDATION_SCENES = 120
UNLABELLED = 65535


def measure(
    network: OpenMaskFormer,
    scenes: Iterable[Scene],
    text_embeddings: Tensor,
    *,
    seen: Sequence[str],
) -> dict[str, float]:
    """Measure what the card reports, on scenes that the network was not trained on.

    Args:
        network: the trained network.
        scenes: scenes with their segments.
        text_embeddings: (K, E) of all categories, in catalog order.
        seen: names of the categories the network was trained on.

    Returns:
        For single segments and for the union of each category, seen and unseen: the recall (share
        of ground-truth masks that some proposal matches with IoU >= 0.5) and the mean best IoU of
        the masks; mIoU of the network alone (`miou_union`, `miou_union_seen`, `miou_union_unseen`).
    """
    best: list[dict[tuple[str, str, int], float]] = []
    confusion = Confusion(len(CATEGORIES), UNLABELLED)
    for scene in scenes:
        (proposals,) = network.propose([scene.image])
        best.append(best_ious(proposals.masks, scene))
        truth_map = np.full(scene.image.shape[:2], UNLABELLED, dtype=np.uint16)
        for segment in scene.segments:
            truth_map[segment.mask] = segment.category.id - 1
        confusion.update(truth_map, _semantic_map(network, proposals, text_embeddings))
    metrics = recall(best, seen)
    indices = [category.id - 1 for category in CATEGORIES if category.name in seen]
    scores = segmentation_scores(confusion.class_counts(), seen=indices)
    for part in ("", "_seen", "_unseen"):
        metrics[f"miou_union{part}"] = scores[f"miou_union{part}"]
    return metrics


@torch.inference_mode()
def _semantic_map(
    network: OpenMaskFormer, proposals: Proposals, text_embeddings: Tensor
) -> NDArray[np.int64]:
    """Classify pixels by the MaskFormer branch alone: argmax of sum_q p(q, c) m(q, pixel)."""
    assert proposals.class_embeddings is not None
    logits = network.class_logits(proposals.class_embeddings, text_embeddings)
    probabilities = logits.softmax(-1)[:, :-1]
    scores = torch.einsum("qc,qhw->chw", probabilities, proposals.masks)
    labels: NDArray[np.int64] = scores.argmax(0).cpu().numpy()
    return labels


def validation_scenes(count: int = VALIDATION_SCENES) -> list[Scene]:
    """Draw the first scenes of the validation range."""
    return [draw_scene(seed, size=SIZE) for seed in scene_seeds("val", count)]
