"""Texts of classes: pooling, synonyms and relations against loops written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ovseg.config.scoring import BenchmarkConfig
from ovseg.models.ensemble import class_probabilities
from ovseg.models.texts import class_relations as relating
from ovseg.models.texts.class_relations import class_relations, share_evidence
from ovseg.models.texts.class_texts import (
    ClassTexts,
    best_logits,
    class_texts,
    shown_texts,
    with_listed_synonyms,
)


def unit(rows: int, seed: int, width: int = 8) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


@given(st.integers(0, 4), st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 99))
def test_a_class_has_the_logit_of_its_best_text(rows: int, more: list[int], seed: int):
    class_of = [*range(4), *more]
    logits = torch.randn(rows, len(class_of), generator=torch.Generator().manual_seed(seed))
    found = best_logits(logits, class_of, 4)
    assert found.shape == (rows, 4)
    for row in range(rows):
        for k in range(4):
            best = max(float(logits[row, t]) for t, of in enumerate(class_of) if of == k)
            assert float(found[row, k]) == best


def test_a_class_without_a_text_is_refused():
    with pytest.raises(ValueError, match="3 classes has a text"):
        best_logits(torch.zeros(1, 2), [0, 2], 3)


def test_one_text_a_class_is_the_plain_softmax_whatever_the_pooling():
    texts, features = unit(5, 0), unit(3, 1)
    plain = class_probabilities(features, texts)
    for pooling in ("texts", "classes"):
        read = ClassTexts(
            embeddings=texts, class_of=tuple(range(5)), classes=5, pooling=pooling
        ).probabilities(100.0 * features @ texts.T)
        assert torch.equal(read, plain)


def test_synonyms_are_pooled_before_the_softmax_and_the_void_takes_part_in_it():
    class_of, logits = (0, 0, 1), torch.tensor([[1.0, 3.0, 2.0, 0.5]])
    texts = ClassTexts(embeddings=unit(3, 0), class_of=class_of, classes=2, pooling="classes")
    assert texts.columns == (0, 1)
    total = math.exp(3) + math.exp(2) + math.exp(0.5)
    expected = torch.tensor([[math.exp(3) / total, math.exp(2) / total]])
    torch.testing.assert_close(texts.probabilities(logits, void=True), expected)
    apart = ClassTexts(embeddings=unit(3, 0), class_of=class_of, classes=2)
    assert apart.columns == class_of
    torch.testing.assert_close(apart.probabilities(logits[:, :3]), logits[:, :3].softmax(-1))


def test_the_texts_of_a_class_are_its_own_and_its_listed_synonyms():
    found = with_listed_synonyms("storybook", ["house", "moon", "grass"])
    assert found == [
        ("house", 0),
        ("cottage", 0),
        ("home", 0),
        ("moon", 1),
        ("grass", 2),
        ("lawn", 2),
    ]
    # a name that lists words; the class of one's own is not another's synonym
    own = with_listed_synonyms("mine", ["door, double door", "screen"], [("screen", 1)])
    assert own == [("door, double door", 0), ("door", 0), ("double door", 0), ("screen", 1)]
    given = with_listed_synonyms("storybook", ["house"], [("Cottage", 0), ("a home", 0)])
    assert given == [("Cottage", 0), ("a home", 0), ("home", 0)]


def test_synonyms_are_shown_where_they_are_asked_for():
    plain = BenchmarkConfig()
    assert shown_texts(plain, ["house", "sea"]) == [("house", 0), ("sea", 1)]
    assert shown_texts(plain, ["house"], [("hut", 0)]) == [("hut", 0)]
    shown = shown_texts(plain.model_copy(update={"synonyms": True}), ["house", "sea"])
    assert ("ocean", 1) in shown
    read = class_texts(
        plain.model_copy(update={"synonyms": True, "relations": 0.2}), unit(len(shown), 0), shown, 2
    )
    assert (read.pooling, read.relations, read.columns) == ("classes", 0.2, (0, 1))


def test_relations_against_loops(monkeypatch):
    monkeypatch.setattr(relating, "RELATION_TEMPERATURE", 0.3)
    class_of, texts = [0, 1, 1, 2], unit(4, 3)
    found = class_relations(texts, class_of, 3)
    for i in range(3):
        alike = {}
        for j in range(3):
            if i != j:
                alike[j] = max(
                    float(texts[a] @ texts[b])
                    for a in range(4)
                    for b in range(4)
                    if (class_of[a], class_of[b]) == (i, j)
                )
        total = sum(math.exp(cosine / 0.3) for cosine in alike.values())
        for j in range(3):
            expected = math.exp(alike[j] / 0.3) / total if j in alike else 0.0
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)


def test_evidence_is_shared_by_the_formula_and_rows_keep_their_sum():
    relations = class_relations(unit(4, 0), range(4), 4)
    p = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    for weight in (0.1, 1.0):
        shared = share_evidence(p, relations, weight)
        for q in range(3):
            for k in range(4):
                lent = sum(float(p[q, j] * relations[j, k]) for j in range(4))
                expected = (1 - weight) * float(p[q, k]) + weight * lent
                assert float(shared[q, k]) == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(shared.sum(1), p.sum(1))
    assert share_evidence(p, relations, 0.0) is p
    with pytest.raises(ValueError, match="must be in 0"):
        share_evidence(p, relations, 1.5)


def test_a_single_class_and_no_region_are_no_trouble():
    one = ClassTexts(embeddings=unit(1, 0), class_of=(0,), classes=1, relations=0.5)
    assert one.probabilities(torch.tensor([[3.0]])).tolist() == [[1.0]]
    assert class_relations(unit(1, 0), [0], 1).tolist() == [[0.0]]
    many = ClassTexts(embeddings=unit(3, 0), class_of=(0, 1, 1), classes=2, relations=0.5)
    assert many.probabilities(torch.zeros(0, 3)).shape == (0, 2)


def test_an_unseen_class_gains_from_what_is_like_it():
    texts = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0]]))
    read = ClassTexts(embeddings=texts, class_of=(0, 1, 2), classes=3, relations=0.3)
    plain = ClassTexts(embeddings=texts, class_of=(0, 1, 2), classes=3)
    logits = torch.tensor([[9.0, 0.0, 0.0]])  # all for the first class, the second is like it
    gained = read.probabilities(logits) - plain.probabilities(logits)
    assert gained[0, 1] > 0.2 > gained[0, 2]
