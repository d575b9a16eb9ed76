"""The texts of the classes, and how the scores of a class's texts are combined.

A class may have several texts: those of its published evaluation, or its name and its synonyms.
There are two ways to combine them. `texts` gives each its own column in the softmax and takes a
class's best one at the end, as those evaluations do; `classes` takes the best logit of each class
before the softmax (OpenSeg, ODISE, FC-CLIP), so that a class with many synonyms does not get more
probability than others.
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
    normalized,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)
from ovseg.models.proposal import COSINE_SCALE
from ovseg.models.texts.class_relations import class_relations, share_evidence

Pooling = Literal["texts", "classes"]


@dataclass(frozen=True, kw_only=True)
class ClassTexts:
    """The texts of K classes and how they are combined.

    Attributes:
        embeddings: `(T, E)` embeddings of the texts, L2 norm 1.
        class_of: `(T,)` index of each text's class.
        classes: number of classes K.
        pooling: whether scores have one column per text or one per class, its best text's.
        relations: share of its probability that a class lends to similar ones, which needs one
            column per class whatever the pooling.
    """

    embeddings: Tensor
    class_of: tuple[int, ...]
    classes: int
    pooling: Pooling = "texts"
    relations: float = 0.0

    @property
    def pooled(self) -> bool:
        """Whether scores have one column per class."""
        return self.pooling == "classes" or self.relations > 0

    @property
    def columns(self) -> tuple[int, ...]:
        """The class of each column of the scores."""
        return tuple(range(self.classes)) if self.pooled else self.class_of

    @cached_property
    def related(self) -> Tensor:
        """The `(K, K)` relations of the classes."""
        return class_relations(self.embeddings, self.class_of, self.classes)

    def classify(self, features_ve: Tensor) -> Tensor:
        """Compare embeddings `(V, E)`, L2 norm 1, with the texts: `(V, C)` probabilities."""
        return self.probabilities(COSINE_SCALE * features_ve @ self.embeddings.T)

    def probabilities(self, logits_vt: Tensor, *, void: bool = False) -> Tensor:
        """Return the softmax over the columns of scores.

        Args:
            logits_vt: `(V, T)`, or `(V, T + 1)` with a last column for *non-object*.
            void: whether there is that column; it is part of the softmax and dropped after it.

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
        """Return probabilities `(V, C)` of the columns after sharing between similar classes."""
        if not self.relations:
            return scores_vc
        return share_evidence(scores_vc, self.related, self.relations)


def shown_texts(
    config: BenchmarkConfig, classes: Sequence[str], prompts: Sequence[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """Return the texts that a configuration uses for the classes, each with its class's index.

    Args:
        config: determines the benchmark, and whether synonyms are used.
        classes: K names.
        prompts: texts of the classes; defaults to the names.
    """
    if config.synonyms:
        return with_listed_synonyms(config.benchmark, classes, prompts)
    return [*prompts] or [(name, index) for index, name in enumerate(classes)]


def class_texts(
    config: BenchmarkConfig, texts_te: Tensor, shown: Sequence[tuple[str, int]], classes: int
) -> ClassTexts:
    """Combine the texts of `shown_texts` with their embeddings, as configured."""
    return ClassTexts(
        embeddings=texts_te,
        class_of=tuple(index for _, index in shown),
        classes=classes,
        pooling="classes" if config.synonyms else "texts",
        relations=config.relations,
    )


def class_words(benchmark: str, classes: Sequence[str]) -> tuple[ClassName, ...]:
    """Return the classes of a benchmark with their words.

    Args:
        benchmark: its name; a known benchmark has listed synonyms.
        classes: K names; one with commas, as in ADE20K, holds several words.
    """
    synonyms = {}
    if benchmark in vocabulary_names():
        synonyms = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    return with_synonyms(classes, synonyms)


def with_listed_synonyms(
    benchmark: str, classes: Sequence[str], prompts: Sequence[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """Return the texts and listed synonyms of each class, each with the class's index.

    Args:
        benchmark: its name.
        classes: K names.
        prompts: texts of the classes; defaults to the names.

    Returns:
        For each class, its own texts first, then the synonyms that are not already among them.
    """
    pairs: list[tuple[str, int]] = []
    for each in class_words(benchmark, classes):
        own = [text for text, index in prompts if index == each.class_id] or [each.name]
        words = {normalized(text): text for text in reversed([*own, *each.synonyms])}
        spellings = set(words.values())
        texts = [text for text in dict.fromkeys([*own, *each.synonyms]) if text in spellings]
        pairs += ((text, each.class_id) for text in texts)
    return pairs


def best_logits(logits_vt: Tensor, class_of: Sequence[int], classes: int) -> Tensor:
    """Return the logit of each class's best text.

    Args:
        logits_vt: `(V, T)` logits of the texts.
        class_of: `(T,)` index of each text's class.
        classes: K; each has a text.

    Returns:
        `(V, K)`.

    Raises:
        ValueError: if a class has no text and so could never be chosen.
    """
    if set(class_of) != set(range(classes)):
        raise ValueError(f"not every one of {classes} classes has a text")
    index = torch.tensor(class_of, dtype=torch.int64, device=logits_vt.device)
    best = logits_vt.new_full((len(logits_vt), classes), -torch.inf)
    return best.scatter_reduce(1, index.expand(len(logits_vt), -1), logits_vt, "amax")


def best_of_class(
    scores: NDArray[np.float32], class_of: Sequence[int], classes: int
) -> NDArray[np.float32]:
    """Return the score of each class's best text.

    Args:
        scores: `(Q, T)` scores of the texts, not negative.
        class_of: `(T,)` index of each text's class.
        classes: number of classes K.

    Returns:
        `(Q, K)`.
    """
    best = np.zeros((classes, len(scores)), dtype=scores.dtype)
    np.maximum.at(best, np.asarray(class_of, dtype=np.int64), scores.T)
    return best.T
