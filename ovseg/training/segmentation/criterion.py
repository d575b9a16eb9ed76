"""The set criterion of the class-embedding MaskFormer: cross entropy, focal and dice per layer.

Formulas as in the paper's implementation: total = 1 x CE (non-object weighted 0.1) + 20 x focal
+ 1 x dice, on the last decoder layer and on every auxiliary one, each matched separately. Two
extensions are off unless a target has a `valid` mask: unknown pixels are excluded from the mask
losses, and queries that cover mostly such pixels may be excluded from the class loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.training.segmentation.matching import (
    FOCAL_ALPHA,
    FOCAL_GAMMA,
    MatchingCosts,
    Target,
    match,
)


@dataclass(frozen=True)
class Prediction:
    """Logits of one decoder layer: `class_logits` (B, Q, K + 1), `mask_logits` (B, Q, h, w)."""

    class_logits: Tensor
    mask_logits: Tensor


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, and of the non-object class in the cross entropy.

    `spare_unknown` is the share of unknown pixels in its mask above which an unmatched query is
    excluded from the class loss; None, the paper's setting, excludes none. `label_smoothing` is the
    share of a label that is spread evenly over all classes; 0 in the paper.
    """

    label: float = 1.0
    mask: float = 20.0
    dice: float = 1.0
    non_object: float = 0.1
    spare_unknown: float | None = None
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class CriterionResult:
    """The weighted total (a scalar with gradient) and the unweighted terms by name.

    `matches[layer][image]` holds the (query, target) indices, last layer first, then the auxiliary
    ones; terms of auxiliary layer i have the suffix `_i`.
    """

    total: Tensor
    terms: dict[str, Tensor]
    matches: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)


def criterion(
    last: Prediction,
    aux: Sequence[Prediction],
    targets: Sequence[Target],
    *,
    weights: LossWeights | None = None,
    costs: MatchingCosts | None = None,
) -> CriterionResult:
    """Compute the loss of a batch.

    Args:
        last: output of the last decoder layer.
        aux: outputs of the layers before it.
        targets: one per image; masks may differ in size and are zero padded to a common one.
        weights: weights of the loss terms.
        costs: weights of the matching.

    Returns:
        Total, terms and matches.

    Raises:
        ValueError: if the number of targets is not the batch size.
    """
    weights = weights or LossWeights()
    costs = costs or MatchingCosts()
    if len(targets) != len(last.class_logits):
        raise ValueError(f"{len(targets)} targets for a batch of {len(last.class_logits)}")
    masks, valid = _padded(targets)
    terms: dict[str, Tensor] = {}
    matches = []
    total = torch.zeros((), device=last.class_logits.device)
    layers = [("", last), *((f"_{index}", layer) for index, layer in enumerate(aux))]
    for suffix, layer in layers:
        matched = [
            match(layer.class_logits[b], layer.mask_logits[b], target, costs)
            for b, target in enumerate(targets)
        ]
        matches.append(matched)
        label = label_loss(layer, targets, matched, weights)
        mask, dice = _mask_losses(layer.mask_logits, masks, valid, matched)
        terms |= {f"loss_ce{suffix}": label, f"loss_mask{suffix}": mask, f"loss_dice{suffix}": dice}
        total = total + weights.label * label + weights.mask * mask + weights.dice * dice
    return CriterionResult(total, terms, matches)


def label_loss(
    layer: Prediction,
    targets: Sequence[Target],
    matched: list[tuple[Tensor, Tensor]],
    weights: LossWeights,
) -> Tensor:
    """Return the cross entropy of all queries of a decoder layer; unmatched are *non-object*.

    Args:
        layer: the layer's logits.
        targets: one per image.
        matched: (query, target) indices of each image.
        weights: weight of the non-object class, and smoothing; the term's weight is not applied.

    Returns:
        A scalar, the mean weighted by class.
    """
    logits = layer.class_logits
    non_object = logits.shape[-1] - 1
    labels = torch.full(logits.shape[:2], non_object, dtype=torch.int64, device=logits.device)
    for b, (target, (queries, indices)) in enumerate(zip(targets, matched)):
        spared = _covers_unknown(layer.mask_logits[b], target, weights.spare_unknown)
        labels[b, spared] = -100
        labels[b, queries] = target.labels[indices].to(labels)
    class_weights = logits.new_ones(non_object + 1)
    class_weights[-1] = weights.non_object
    if weights.non_object == 0:
        labels[labels == non_object] = -100
    if bool((labels == -100).all()):
        return logits.sum() * 0  # an empty weighted mean would be nan
    return F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        weight=class_weights,
        ignore_index=-100,
        label_smoothing=weights.label_smoothing,
    )


@torch.no_grad()
def _covers_unknown(mask_logits: Tensor, target: Target, share: float | None) -> Tensor:
    """Return (Q,) bool: whether more than `share` of each query's mask is unknown."""
    if share is None or target.valid is None:
        return torch.zeros(len(mask_logits), dtype=torch.bool, device=mask_logits.device)
    valid = F.interpolate(
        target.valid[None, None].to(mask_logits), size=mask_logits.shape[-2:], mode="nearest"
    )[0, 0]
    masks_qhw = (mask_logits > 0).to(mask_logits)
    unknown = (masks_qhw * (1 - valid)).sum((1, 2))
    return unknown > share * masks_qhw.sum((1, 2)).clamp(min=1)


def _mask_losses(
    mask_logits: Tensor,
    masks: list[Tensor],
    valid: list[Tensor | None],
    matched: list[tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Return the focal and dice loss of the matched pairs, at the size of the targets."""
    predictions = torch.cat([mask_logits[b][queries] for b, (queries, _) in enumerate(matched)])
    truths = torch.cat([masks[b][indices] for b, (_, indices) in enumerate(matched)])
    # divided by the number of targets in the batch, matched or not, as upstream
    count = max(1, sum(len(m) for m in masks))
    predictions = F.interpolate(
        predictions[:, None], size=truths.shape[-2:], mode="bilinear", align_corners=False
    ).flatten(1)
    truth = truths.flatten(1).to(predictions)
    weight = None
    if any(v is not None for v in valid):
        everywhere = torch.ones(truths.shape[-2:], device=predictions.device)
        weights = [everywhere if v is None else v.to(everywhere) for v in valid]
        weight = torch.cat(
            [v.flatten()[None].expand(len(q), -1) for v, (q, _) in zip(weights, matched)]
        )
    return (
        focal_loss(predictions, truth, weight).sum() / count,
        dice_loss(predictions, truth, weight).sum() / count,
    )


def focal_loss(logits_np: Tensor, targets_np: Tensor, weight_np: Tensor | None = None) -> Tensor:
    """Sigmoid focal loss (alpha 0.25, gamma 2) of each row, a mean over its (weighted) pixels.

    Args:
        logits_np: (N, P) float.
        targets_np: (N, P) float 0/1.
        weight_np: (N, P) float 0/1, or None for all pixels.

    Returns:
        (N,) float.
    """
    entropy = F.binary_cross_entropy_with_logits(logits_np, targets_np, reduction="none")
    probability = logits_np.sigmoid()
    wrong = probability + targets_np - 2 * probability * targets_np  # 1 - p of the true side
    alpha = (1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * targets_np
    loss = alpha * wrong**FOCAL_GAMMA * entropy
    if weight_np is None:
        return loss.mean(1)
    return (loss * weight_np).sum(1) / weight_np.sum(1).clamp(min=1)


def dice_loss(logits_np: Tensor, targets_np: Tensor, weight_np: Tensor | None = None) -> Tensor:
    """Dice loss with +1 smoothing of each row; shapes as in `focal_loss`."""
    probability = logits_np.sigmoid()
    if weight_np is not None:
        probability, targets_np = probability * weight_np, targets_np * weight_np
    overlap = 2 * (probability * targets_np).sum(1)
    return 1 - (overlap + 1) / (probability.sum(1) + targets_np.sum(1) + 1)


def _padded(targets: Sequence[Target]) -> tuple[list[Tensor], list[Tensor | None]]:
    """Zero pad masks and valid maps, right and below, to the largest size of the batch."""
    height = max(t.masks.shape[-2] for t in targets)
    width = max(t.masks.shape[-1] for t in targets)
    masks: list[Tensor] = []
    valid: list[Tensor | None] = []
    for target in targets:
        pad = (0, width - target.masks.shape[-1], 0, height - target.masks.shape[-2])
        masks.append(F.pad(target.masks, pad))
        valid.append(None if target.valid is None else F.pad(target.valid, pad))
    return masks, valid
