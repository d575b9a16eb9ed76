"""Which texts stand for the classes, and how the scores of a class's texts become its own.

A class may have several texts: those its published evaluation shows to the model, or its name and
its synonyms. There are two readings of them. `texts` leaves each its own place in the softmax and
takes a class's best one at the end, as those evaluations do; `classes` takes the best logit of each
class before the softmax (OpenSeg, ODISE, FC-CLIP), so that a class with many synonyms takes no more
of the probability than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.vocabulary import (
    ClassName,
    normalised,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)
from ovseg.models.proposal import COSINE_SCALE
from ovseg.models.texts.class_relations import class_relations, share_evidence

Pooling = Literal["texts", "classes"]


@dataclass(frozen=True, kw_only=True)
class ClassTexts:
    """The texts of K classes and how they are read.

    Attributes:
        embeddings: `(T, E)` of the texts, L2 norm 1.
        class_of: `(T,)` index of the class each text stands for.
        classes: K.
        pooling: whether scores have a column a text or, each its best text's, one a class.
        relations: share of its probability a class lends to those like it, which takes a column a
            class whatever the pooling.
    """

    embeddings: Tensor
    class_of: tuple[int, ...]
    classes: int
    pooling: Pooling = "texts"
    relations: float = 0.0

    @property
    def pooled(self) -> bool:
        """Whether scores have a column a class."""
        return self.pooling == "classes" or self.relations > 0

    @property
    def columns(self) -> tuple[int, ...]:
        """The class of each column of the scores."""
        return tuple(range(self.classes)) if self.pooled else self.class_of

    @cached_property
    def related(self) -> Tensor:
        """`(K, K)` relations of the classes."""
        return class_relations(self.embeddings, self.class_of, self.classes)

    def classify(self, features_ve: Tensor) -> Tensor:
        """Compare embeddings `(V, E)`, L2 norm 1, with the texts: `(V, C)` probabilities."""
        return self.probabilities(COSINE_SCALE * features_ve @ self.embeddings.T)

    def probabilities(self, logits_vt: Tensor, *, void: bool = False) -> Tensor:
        """A softmax over the columns of scores.

        Args:
            logits_vt: `(V, T)`, or `(V, T + 1)` with a last one for *non-object*.
            void: there is that last one; it takes part in the softmax and is dropped after it.

        Returns:
            `(V, C)` in 0..1, of the C columns.
        """
        logits, rest = (logits_vt[:, :-1], logits_vt[:, -1:]) if void else (logits_vt, None)
        if self.pooled:
            logits = best_logits(logits, self.class_of, self.classes)
        if rest is None:
            scores = logits.softmax(-1)
        else:
            scores = torch.cat([logits, rest], dim=1).softmax(-1)[:, :-1]
        return self.shared(scores)

    def shared(self, scores_vc: Tensor) -> Tensor:
        """Probabilities `(V, C)` of the columns after classes lent to those like them."""
        if not self.relations:
            return scores_vc
        return share_evidence(scores_vc, self.related, self.relations)


def shown_texts(
    config: BenchmarkConfig, classes: Sequence[str], prompts: Sequence[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """What a configuration shows the model for the classes, each text with its class's index.

    Args:
        config: its benchmark, and whether synonyms stand for a class too.
        classes: K names.
        prompts: texts that stand for the classes where they are others than the names.
    """
    if config.synonyms:
        return with_listed_synonyms(config.benchmark, classes, prompts)
    return [*prompts] or [(name, index) for index, name in enumerate(classes)]


def class_texts(
    config: BenchmarkConfig, texts_te: Tensor, shown: Sequence[tuple[str, int]], classes: int
) -> ClassTexts:
    """The texts of `shown_texts`, embedded, as the configuration reads them."""
    return ClassTexts(
        embeddings=texts_te,
        class_of=tuple(index for _, index in shown),
        classes=classes,
        pooling="classes" if config.synonyms else "texts",
        relations=config.relations,
    )


def class_words(benchmark: str, classes: Sequence[str]) -> tuple[ClassName, ...]:
    """The classes of a benchmark with the words that stand for them.

    Args:
        benchmark: its name; the listed synonyms of one that is known count.
        classes: K names; one with commas, as ADE20K has them, holds several words.
    """
    listed = {}
    if benchmark in vocabulary_names():
        listed = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    return with_synonyms(classes, listed)


def with_listed_synonyms(
    benchmark: str, classes: Sequence[str], prompts: Sequence[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """The texts of each class and its listed synonyms, each with the class's index.

    Args:
        benchmark: its name.
        classes: K names.
        prompts: texts that stand for the classes where they are others than the names.

    Returns:
        Class by class: its own texts first, then those synonyms that none of them spells already.
    """
    found: list[tuple[str, int]] = []
    for each in class_words(benchmark, classes):
        own = [text for text, index in prompts if index == each.class_id] or [each.name]
        words = {normalised(text): text for text in reversed([*own, *each.synonyms])}
        kept = set(words.values())
        texts = [text for text in dict.fromkeys([*own, *each.synonyms]) if text in kept]
        found += ((text, each.class_id) for text in texts)
    return found


def best_logits(logits_vt: Tensor, class_of: Sequence[int], classes: int) -> Tensor:
    """The logit of each class: that of its best text.

    Args:
        logits_vt: `(V, T)` of the texts.
        class_of: `(T,)` index of the class each text stands for.
        classes: K; every one has a text.

    Returns:
        `(V, K)`.

    Raises:
        ValueError: a class without a text, which could never be chosen.
    """
    if set(class_of) != set(range(classes)):
        raise ValueError(f"not every one of {classes} classes has a text")
    index = torch.tensor(class_of, dtype=torch.int64, device=logits_vt.device)
    best = logits_vt.new_full((len(logits_vt), classes), -torch.inf)
    return best.scatter_reduce(1, index.expand(len(logits_vt), -1), logits_vt, "amax")


def best_of_class(
    scores: NDArray[np.float32], class_of: Sequence[int], classes: int
) -> NDArray[np.float32]:
    """The score of each class: that of its best text.

    Args:
        scores: `(Q, T)` of the texts, not negative.
        class_of: `(T,)` index of the class each text stands for.
        classes: K.

    Returns:
        `(Q, K)`.
    """
    best = np.zeros((classes, len(scores)), dtype=scores.dtype)
    np.maximum.at(best, np.asarray(class_of, dtype=np.int64), scores.T)
    return best.T
