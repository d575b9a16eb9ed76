"""The formulas of two-stage inference: combine two branches, then compute class maps and labels.

As in the paper (OVSeg, CVPR 2023, section 3) and its official implementation, including the
constants: temperature 100 in both branches, and soft masks that weight the proposals' class scores.
The official demo uses `best_masks` instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.contenders import contenders, in_parts
from ovseg.models.proposal import COSINE_SCALE

SCORE_BUDGET = 2**26  # numbers of class maps held at once: 256 MiB of float32

Ensemble = Literal["upstream", "geometric", "void", "clip_only", "maskformer_only"]


def class_probabilities(
    features_ve: Tensor, texts_ke: Tensor, *, scale: float = COSINE_SCALE
) -> Tensor:
    """Return the softmax of scaled cosines over the K classes.

    Args:
        features_ve: `(V, E)` region embeddings, L2 norm 1.
        texts_ke: `(K, E)` embeddings of the class names, L2 norm 1, without *non-object*.
        scale: the inverse temperature.

    Returns:
        `(V, K)`, in 0..1.
    """
    return (scale * features_ve @ texts_ke.T).softmax(-1)


def ensemble(
    p_maskformer_qk: Tensor | None,
    p_clip_vk: Tensor,
    valid_q: Tensor,
    weight: float | Tensor,
    *,
    mode: Ensemble = "upstream",
    p_object_q: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Combine the two branches' scores of each proposal.

    `p = p_maskformer^(1 - weight) * p_clip^weight`, not normalized, with `p_clip = 1` for a
    proposal without a pixel above the threshold, which CLIP has not seen.

    Args:
        p_maskformer_qk: `(Q, K)` float in 0..1; None for a closed-vocabulary network.
        p_clip_vk: `(V, K)` float in 0..1, scores of the valid proposals in order.
        valid_q: `(Q,)` bool with V true entries.
        weight: lambda, 0..1; or `(K,)`, one per class, for different weights of classes seen and
            unseen in training (SimBaseline: lambda for unseen and 1 - lambda for seen classes;
            FC-CLIP: 0.8 and 0.4).
        mode: `upstream` follows the official implementation: the formula, but weight 0 is CLIP
            alone over the valid proposals; `geometric` is the formula for every weight, so 0 is
            MaskFormer alone; `void` follows FC-CLIP: both are distributions over the classes,
            their product is normalized and multiplied by 1 - P(non-object), and a proposal that
            CLIP has not seen uses MaskFormer alone; `clip_only` and `maskformer_only` ignore the
            weight. With a closed-vocabulary network, only CLIP is used.
        p_object_q: `(Q,)` for `void`, 1 - P(non-object); defaults to the sum of `p_maskformer_qk`,
            which differs if one class of the network has several columns.

    Returns:
        `(R, K)` class scores of the R proposals used, and `(Q,)` bool that marks them.

    Raises:
        OvsegError: for `maskformer_only` with a closed-vocabulary network.
        ValueError: if shapes do not fit or the mode is unknown.
    """
    if mode not in get_args(Ensemble):
        raise ValueError(f"mode must be one of {', '.join(get_args(Ensemble))}, not {mode!r}")
    weight_k = torch.as_tensor(weight, dtype=torch.float32, device=valid_q.device)
    if not bool(((weight_k >= 0) & (weight_k <= 1)).all()):
        raise ValueError(f"the ensemble weight must be in 0..1, not {weight}")
    if len(p_clip_vk) != int(valid_q.sum()):
        raise ValueError(f"{len(p_clip_vk)} rows of CLIP for {int(valid_q.sum())} valid proposals")
    if p_maskformer_qk is None:
        if mode == "maskformer_only":
            raise OvsegError(
                "this MaskFormer has a closed vocabulary and cannot score other classes:"
                " use one with class embeddings, or another ensemble"
            )
        return p_clip_vk, valid_q
    if mode == "maskformer_only":
        return p_maskformer_qk, torch.ones_like(valid_q)
    if mode == "clip_only" or (mode == "upstream" and bool((weight_k == 0).all())):
        return p_clip_vk, valid_q
    p_clip_qk = torch.ones_like(p_maskformer_qk)
    p_clip_qk[valid_q] = p_clip_vk.to(p_clip_qk)
    if mode == "void":
        p_object = p_maskformer_qk.sum(dim=-1) if p_object_q is None else p_object_q
        joined = _void(p_maskformer_qk, p_clip_qk, weight_k * valid_q[:, None])
        return joined * p_object[:, None], torch.ones_like(valid_q)
    return p_maskformer_qk ** (1 - weight) * p_clip_qk**weight, torch.ones_like(valid_q)


def _void(p_maskformer_qk: Tensor, p_clip_qk: Tensor, weight_qk: Tensor) -> Tensor:
    """Return FC-CLIP's joint distribution over the classes, given that a proposal is an object."""
    tiny = torch.finfo(p_maskformer_qk.dtype).tiny
    inside = p_maskformer_qk / p_maskformer_qk.sum(dim=-1, keepdim=True).clamp_min(tiny)
    joined = inside ** (1 - weight_qk) * p_clip_qk**weight_qk
    return joined / joined.sum(dim=-1, keepdim=True).clamp_min(tiny)


def best_masks(
    p_rk: Tensor,
    masks_rhw: Tensor,
    valid_r: Tensor,
    *,
    threshold: float,
    skip_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """Choose each class's best proposal as a binary mask, as in the official demo.

    A proposal chosen by one class keeps its scores for all, so `label_map` may still give its
    pixels to another class. The demo fails on invalid proposals if the ensemble weight is above 0;
    here they are never chosen.

    Args:
        p_rk: `(R, K)` class scores.
        masks_rhw: `(R, h, w)` soft masks in 0..1.
        valid_r: `(R,)` bool, whether a proposal has a pixel.
        threshold: pixels above this belong to a mask.
        skip_last: the last class chooses nothing (in the demo, "others" next to a single name).

    Returns:
        `(S, K)` scores and `(S, h, w)` float masks, 0 or 1, of the chosen proposals in order;
        S may be 0.
    """
    p_vk, masks_vhw = p_rk[valid_r], masks_rhw[valid_r]
    is_best = torch.zeros(len(p_vk), dtype=torch.bool, device=p_vk.device)
    if len(p_vk):
        best = p_vk.argmax(dim=0)
        is_best[best[:-1] if skip_last else best] = True
    return p_vk[is_best], (masks_vhw[is_best] > threshold).to(p_vk.dtype)


def aggregate(p_qk: Tensor, masks_qhw: Tensor) -> Tensor:
    """Sum the proposals' class scores under their masks: class maps `(K, h, w)`."""
    return torch.einsum("qk,qhw->khw", p_qk, masks_qhw)


def resized_maps(maps_khw: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize class maps bilinearly, without antialiasing or aligned corners."""
    if maps_khw.shape[1:] == size:
        return maps_khw
    return F.interpolate(maps_khw[None], size=size, mode="bilinear", align_corners=False)[0]


def best_of_parts(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Find the largest value of every pixel over maps that arrive in parts.

    Args:
        parts: `(K_i, H, W)` maps in the order of the classes.

    Returns:
        `(H, W)` values, and `(H, W)` int64 indices among all maps; the first on a tie.

    Raises:
        ValueError: if there is no map.
    """
    best = labels = None
    start = 0
    for maps in parts:
        top, index = maps.max(dim=0)
        if best is None or labels is None:
            best, labels = top, index
        else:
            better = top > best  # strictly: the first class wins a tie
            best = torch.where(better, top, best)
            labels = torch.where(better, index + start, labels)
        start += len(maps)
    if labels is None or best is None:
        raise ValueError("no class to choose from")
    return best, labels


def label_map(
    p_qk: Tensor,
    masks_qhw: Tensor,
    size: tuple[int, int],
    *,
    empty: int | None = None,
) -> Tensor:
    """Return the best class of every pixel at the original size, without holding all class maps.

    Class maps are computed for as many classes at once as fit `SCORE_BUDGET`. On a CPU these are
    only the classes that can win (`ovseg.models.contenders`); on a GPU, whose products may be
    rounded differently for fewer classes, all of them.

    Args:
        p_qk: `(Q, K)` class scores; Q may be 0.
        masks_qhw: `(Q, h, w)` masks in 0..1.
        size: original (H, W); class maps are resized bilinearly before the decision.
        empty: label of pixels where every class is exactly 0; defaults to the first class.

    Returns:
        `(H, W)` int64; the first class on a tie.
    """
    pixels = max(size[0] * size[1], masks_qhw.shape[1] * masks_qhw.shape[2])
    at_once = max(1, SCORE_BUDGET // pixels)
    left = None
    if p_qk.device.type == "cpu":
        left = in_parts(contenders(p_qk, masks_qhw), p_qk.shape[1], at_once)
        parts: Iterable[Tensor] = (p_qk[:, part] for part in left)
    else:
        parts = torch.split(p_qk, at_once, dim=1) if p_qk.shape[1] else ()
    best, labels = best_of_parts(resized_maps(aggregate(part, masks_qhw), size) for part in parts)
    if left is not None:
        labels = torch.cat(left)[labels]
    return labels if empty is None else labels.masked_fill(best == 0, empty)
