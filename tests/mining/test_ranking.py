"""The ranks of nouns and proposals by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ovseg.mining.pairs.ranking import rank


def ranked(rows: list[list[float]]):
    return rank(np.array(rows, dtype=np.float32))


def test_ranks_by_hand():
    """Boat and sea both like proposal 1; the sea likes it more. The moon has proposal 2."""
    found = ranked([[0.1, 0.5, 0.3], [0.0, 0.75, 0.7], [0.2, 0.1, 0.4]])
    assert found.best.tolist() == [1, 1, 2]
    assert found.similarity.tolist() == pytest.approx([0.5, 0.75, 0.4])
    assert found.margin.tolist() == pytest.approx([0.2, 0.05, 0.2])
    assert found.noun_rank.tolist() == [2, 1, 2], "for proposal 2 the sea is ahead of the moon"


def test_ties_go_to_the_first():
    found = ranked([[0.5, 0.5], [0.5, 0.5]])
    assert found.best.tolist() == [0, 0]
    assert found.margin.tolist() == [0, 0]
    assert found.noun_rank.tolist() == [1, 2]


def test_one_proposal_has_no_margin_and_none_has_no_rank():
    found = ranked([[0.3], [0.4]])
    assert np.isnan(found.margin).all()
    assert found.noun_rank.tolist() == [2, 1]
    with pytest.raises(ValueError, match="proposal"):
        rank(np.zeros((2, 0), dtype=np.float32))
    assert len(rank(np.zeros((0, 3), dtype=np.float32)).best) == 0


@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 6)),
        elements=st.sampled_from([-0.5, 0.0, 0.25, 0.5]),
    )
)
def test_each_chosen_proposal_has_one_best_noun_at_most(similarity: np.ndarray):
    found = rank(similarity)
    assert (found.similarity == similarity.max(axis=1)).all()
    firsts = found.best[found.noun_rank == 1].tolist()
    assert len(firsts) == len(set(firsts))
    for noun, proposal in enumerate(found.best):
        order = sorted(range(len(similarity)), key=lambda m: (-similarity[m, proposal], m))
        assert found.noun_rank[noun] == 1 + order.index(noun)
