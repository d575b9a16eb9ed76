"""Contrastive losses between regions and nouns: InfoNCE as in the paper, and one over nouns.

Both take the logarithm of the inverse temperature (CLIP's `logit_scale`) and embeddings of length
1, compute in float32 whatever the embeddings' dtype, and agree if no noun occurs twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(image_ne: Tensor, text_ne: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch (OVSeg, CVPR 2023, section 3.2; CLIP's own loss).

    Two regions of one noun are negatives of each other here, as in the official implementation.

    Args:
        image_ne: `(N, E)` region embeddings of L2 norm 1.
        text_ne: `(N, E)` embeddings of their nouns, L2 norm 1; equal nouns repeat.
        logit_scale: scalar, logarithm of the inverse temperature.

    Returns:
        Scalar: the mean of the cross entropies region -> noun and noun -> region.
    """
    logits = logit_scale.float().exp() * image_ne.float() @ text_ne.float().T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def distinct_noun_loss(
    image_ne: Tensor,
    noun_ke: Tensor,
    nouns_n: Tensor,
    logit_scale: Tensor,
    *,
    smoothing: float = 0.0,
    temperature: float = 0.05,
) -> Tensor:
    """InfoNCE in which two regions of one noun are not negatives of each other.

    Region -> noun is a softmax over the K distinct nouns of the batch. Noun -> region has several
    positives: each region i with noun k is contrasted only with the regions of other nouns,
    `-log(e_ik / (e_ik + sum of e_jk over j whose noun is not k))`, averaged over the regions.
    If all nouns differ, this is exactly `clip_loss`; with a single noun it is 0. With smoothing,
    region -> noun uses `soft_targets` instead of the noun alone.

    Args:
        image_ne: `(N, E)` region embeddings of L2 norm 1.
        noun_ke: `(K, E)` embeddings of the distinct nouns of the batch, L2 norm 1.
        nouns_n: `(N,)` int64, the row of each region's noun; every row should occur.
        logit_scale: scalar, logarithm of the inverse temperature.
        smoothing: share of the targets that depends on the similarity of the nouns' texts, 0..1.
        temperature: temperature of the softmax over their cosines.

    Returns:
        Scalar: the mean of the two directions, each averaged over the N regions.
    """
    logits_nk = logit_scale.float().exp() * image_ne.float() @ noun_ke.float().T
    targets = soft_targets(noun_ke, smoothing, temperature)[nouns_n] if smoothing else nouns_n
    to_noun = F.cross_entropy(logits_nk, targets)
    own_n = logits_nk.gather(1, nouns_n[:, None])[:, 0]
    is_own_nk = nouns_n[:, None] == torch.arange(len(noun_ke), device=nouns_n.device)
    others_k = logits_nk.masked_fill(is_own_nk, -torch.inf).logsumexp(dim=0)
    to_region = F.softplus(others_k[nouns_n] - own_n).mean()
    return (to_noun + to_region) / 2


def soft_targets(noun_ke: Tensor, smoothing: float, temperature: float) -> Tensor:
    """Return the target distribution of each noun's regions: mostly itself, partly similar nouns.

    Args:
        noun_ke: `(K, E)` embeddings of the nouns, L2 norm 1; no gradient goes through them.
        smoothing: 0..1, share given by a softmax over the cosines, including the noun's own.
        temperature: temperature of that softmax.

    Returns:
        `(K, K)` float32 rows that sum to 1.
    """
    noun_ke = noun_ke.detach().float()
    alike_kk = (noun_ke @ noun_ke.T / temperature).softmax(dim=1)
    return (1 - smoothing) * torch.eye(len(noun_ke), device=noun_ke.device) + smoothing * alike_kk
