"""The similarity of classes by their texts, and sharing evidence with untrained classes.

The relation of class i to class j is a softmax, over all other classes j, of the cosines of their
texts: it focuses on the nearest, while plain cosines of CLIP's texts (0.6 to 0.9 between any two)
would make all classes similar. Evidence is shared on probabilities, not on logits: each row stays a
distribution, so the ensemble of branches keeps its meaning, and a class gets a share of its
neighbors' probability without losing more than that share to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RELATION_TEMPERATURE = 0.05
"""Temperature of the softmax over cosines: a neighbor nearer by 0.05 counts e times as much."""


def class_relations(texts_te: Tensor, class_of: Sequence[int], classes: int) -> Tensor:
    """Return the relation of each class to every other.

    Args:
        texts_te: `(T, E)` embeddings of the texts, L2 norm 1.
        class_of: `(T,)` index of each text's class.
        classes: K; the most similar texts of two classes count.

    Returns:
        `(K, K)`: rows sum to 1, the diagonal is 0; all 0 for a single class.
    """
    cosine_tt = texts_te.float() @ texts_te.float().T
    index = torch.tensor(class_of, dtype=torch.int64, device=texts_te.device)
    rows = cosine_tt.new_full((classes, len(index)), -torch.inf)
    rows = rows.scatter_reduce(0, index[:, None].expand(-1, len(index)), cosine_tt, "amax")
    cosine_kk = rows.new_full((classes, classes), -torch.inf)
    cosine_kk = cosine_kk.scatter_reduce(1, index.expand(classes, -1), rows, "amax")
    cosine_kk.fill_diagonal_(-torch.inf)
    return (cosine_kk / RELATION_TEMPERATURE).softmax(dim=1).nan_to_num(0.0)


def share_evidence(p_qk: Tensor, relations_kk: Tensor, weight: float) -> Tensor:
    """Share each class's probability with its neighbors: `(1 - w) p + w p S`.

    Args:
        p_qk: `(Q, K)` probabilities.
        relations_kk: `(K, K)` from `class_relations`.
        weight: w, 0..1; 0 changes nothing.

    Returns:
        `(Q, K)`; with two or more classes, each row keeps its sum.

    Raises:
        ValueError: if the weight is outside 0..1.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of relations must be in 0..1, not {weight}")
    if weight == 0 or p_qk.shape[1] == 1:
        return p_qk
    return (1 - weight) * p_qk + weight * (p_qk @ relations_kk.to(p_qk))
