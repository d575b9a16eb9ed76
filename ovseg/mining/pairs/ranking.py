"""Ranking: the proposal each noun is paired with, its margin, and whether the proposal agrees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The best proposal of each of N nouns.

    Attributes:
        best: `(N,)` int64, index of the proposal; the lowest on a tie.
        similarity: `(N,)` float32, its cosine.
        margin: `(N,)` float32 >= 0, its lead over the second; NaN with one proposal.
        noun_rank: `(N,)` int64 from 1, rank of the noun among all nouns for that proposal; on a
            tie the earlier noun is ahead, so a proposal has exactly one best noun.
    """

    best: NDArray[np.int64]
    similarity: NDArray[np.float32]
    margin: NDArray[np.float32]
    noun_rank: NDArray[np.int64]


def rank(similarity_nq: NDArray[np.float32]) -> Ranking:
    """Rank an image's proposals for its nouns.

    Args:
        similarity_nq: `(N, Q)` float32 finite cosines of nouns and proposals, Q >= 1.

    Raises:
        ValueError: if there is no proposal.
    """
    nouns, proposals = similarity_nq.shape
    if proposals == 0:
        raise ValueError("an image without proposals has nothing to rank")
    rows = np.arange(nouns)
    best = similarity_nq.argmax(axis=1)
    similarity = similarity_nq[rows, best]
    margin = np.full(nouns, np.nan, dtype=np.float32)
    if proposals > 1:
        others = similarity_nq.copy()
        others[rows, best] = -np.inf
        margin = similarity - others.max(axis=1)
    rivals = similarity_nq[:, best].T  # (N, N): all nouns' similarities to the n-th noun's best
    ahead = (rivals > similarity[:, None]).sum(axis=1)
    tied = ((rivals == similarity[:, None]) & (rows[None] < rows[:, None])).sum(axis=1)
    return Ranking(best=best, similarity=similarity, margin=margin, noun_rank=1 + ahead + tied)
