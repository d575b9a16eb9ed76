"""Which texts stand for the classes, and how the scores of a class's texts become its own.

A class may have several texts: those its published evaluation shows to the model, or its name and
its synonyms. There are two readings of them. `texts` leaves each its own place in the softmax and
takes a class's best one at the end, as those evaluations do; `classes` takes the best logit of each
class before the softmax (OpenSeg, ODISE, FC-CLIP), so that a class with many synonyms takes no more
of the probability than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ovseg.data.vocabulary import (
    ClassName,
    normalised,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)

Pooling = Literal["texts", "classes"]


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
