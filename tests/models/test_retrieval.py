"""Retrieval against loops, what it keeps on disk, and the segmentor with it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models import retrieval as module
from ovseg.models.class_texts import ClassTexts
from ovseg.models.retrieval import SHARPNESS, RegionMemory, Retrieval


def unit(rows: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator), dim=-1)


def one_each(texts: torch.Tensor) -> ClassTexts:
    """Classes of one text each."""
    return ClassTexts(embeddings=texts, class_of=tuple(range(len(texts))), classes=len(texts))


def memory_of(regions: int, nouns: int, seed: int) -> RegionMemory:
    generator = torch.Generator().manual_seed(seed + 1)
    return RegionMemory(
        regions_ne=unit(regions, 8, seed),
        nouns_n=torch.randint(nouns, (regions,), generator=generator),
        nouns=tuple(f"noun {index}" for index in range(nouns)),
    )


def naive_vote(query, memory, noun_texts, texts, neighbours):
    """One region: every cosine in turn, sorted, each neighbour voting by itself."""
    near = sorted(
        (
            (float(sum(a * b for a, b in zip(query, row, strict=True))), index)
            for index, row in enumerate(memory.regions_ne.tolist())
        ),
        reverse=True,
    )[:neighbours]
    weights = torch.tensor([cosine for cosine, _ in near]).mul(SHARPNESS).softmax(0)
    vote = torch.zeros(len(texts))
    for weight, (_, index) in zip(weights, near, strict=True):
        meaning = (100 * texts @ noun_texts[memory.nouns_n[index]]).softmax(0)
        vote += weight * meaning
    return vote


@settings(max_examples=25, deadline=None)
@given(
    regions=st.integers(1, 40),
    neighbours=st.integers(1, 50),
    seed=st.integers(0, 1000),
    at_once=st.integers(1, 50),
)
def test_the_vote_equals_a_loop_over_all_regions(regions, neighbours, seed, at_once):
    memory = memory_of(regions, 5, seed)
    noun_texts, texts, queries = unit(5, 8, seed + 2), unit(3, 8, seed + 3), unit(4, 8, seed + 4)
    retrieval = Retrieval(memory, noun_texts, one_each(texts), neighbours=neighbours, weight=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS_AT_ONCE", at_once)
        votes = retrieval.vote(queries)
    expected = torch.stack(
        [naive_vote(q.tolist(), memory, noun_texts, texts, neighbours) for q in queries]
    )
    torch.testing.assert_close(votes, expected, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(votes.sum(1), torch.ones(4))


def test_the_vote_joins_geometrically():
    memory, texts = memory_of(10, 4, 0), unit(3, 8, 9)
    queries = unit(2, 8, 5)
    p_clip = torch.tensor([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]])
    for weight in (0.0, 0.4, 1.0):
        retrieval = Retrieval(memory, unit(4, 8, 7), one_each(texts), neighbours=3, weight=weight)
        vote = retrieval.vote(queries)
        product = p_clip ** (1 - weight) * vote**weight
        expected = product / product.sum(1, keepdim=True)
        torch.testing.assert_close(retrieval.join(p_clip, queries), expected)
    nobody = retrieval.join(p_clip[:0], queries[:0])
    assert nobody.shape == (0, 3)


def test_a_region_seen_before_is_named_as_it_was():
    texts = unit(3, 8, 1)
    memory = RegionMemory(
        regions_ne=unit(6, 8, 2), nouns_n=torch.tensor([0, 1, 2, 0, 1, 2]), nouns=("a", "b", "c")
    )
    retrieval = Retrieval(memory, texts, one_each(texts), neighbours=1, weight=1.0)
    assert retrieval.vote(memory.regions_ne).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_what_is_kept_comes_back(tmp_path):
    memory = memory_of(7, 3, 4)
    memory.save(tmp_path / "a")
    again = RegionMemory.load(tmp_path / "a")
    assert again.nouns == memory.nouns and torch.equal(again.nouns_n, memory.nouns_n)
    torch.testing.assert_close(again.regions_ne, memory.regions_ne, atol=1e-3, rtol=0)
    again.save(tmp_path / "b")
    files = [tmp_path / name / module.REGIONS_FILE for name in "ab"]
    assert len({file.stat().st_size for file in files}) == 1


def test_what_is_refused(tmp_path):
    with pytest.raises(OvsegError, match="holds no regions"):
        RegionMemory.load(tmp_path)
    (tmp_path / module.REGIONS_FILE).write_bytes(b"torn")
    with pytest.raises(OvsegError, match="holds no regions"):
        RegionMemory.load(tmp_path)
    empty = memory_of(0, 1, 0)
    with pytest.raises(OvsegError, match="no region to retrieve"):
        Retrieval(empty, unit(1, 8, 0), one_each(unit(2, 8, 1)), neighbours=3, weight=0.5)
    with pytest.raises(OvsegError, match="8 numbers, the texts 16"):
        other = one_each(unit(2, 16, 1))
        Retrieval(memory_of(3, 1, 0), unit(1, 16, 0), other, neighbours=3, weight=0.5)
