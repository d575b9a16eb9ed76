"""The words of a parsed caption, and which of its nouns form a compound.

If the pipeline parses dependencies, its `compound` links decide. Otherwise adjacent nouns are taken
as one compound, as they mostly are in English; spelling identifies the exceptions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ovseg.mining.nouns.caption_text import not_words
from ovseg.mining.nouns.lemmas import noun_lemma
from ovseg.mining.nouns.stop_nouns import NOT_A_NOUN, StopNouns

if TYPE_CHECKING:
    from spacy.tokens import Doc

MIN_LETTERS = 2
# Without a dependency parse, a longer run is more often a list or a mistake than a compound.
MAX_RUN = 3
# Plurals that do modify a noun: "sports ball".
PLURAL_MODIFIERS = frozenset({"sports", "goods", "arms"})


@dataclass(frozen=True, slots=True, eq=False)
class Word:
    """A token that is not whitespace."""

    index: int  # in the Doc
    start: int  # code points of the Doc's text
    end: int
    written: str  # lower case, NFC
    lemma: str  # a noun's singular; else as written
    tag: str  # universal part of speech
    defect: str | None  # for a noun: why its characters rule it out as a name
    joins: bool  # whether it may be part of a compound
    governor: int | None  # index of the word it is a `compound` of


def words_of(doc: Doc, *, tags: Sequence[str], stop_nouns: StopNouns) -> list[Word]:
    """Return the words of a Doc.

    Args:
        doc: has parts of speech and lemmas.
        tags: parts of speech that count as nouns.
        stop_nouns: words of its group `not_a_noun` join no compound.
    """
    words = []
    signs = {place for start, end in not_words(doc.text) for place in range(start, end)}
    for token in doc:
        if token.is_space:
            continue
        written, tag = plain(token.text), token.pos_
        lemma, defect = written, None
        if tag in ("NOUN", "PROPN"):
            # The capital that opens a sentence means nothing: "Giraffes" may well be animals.
            name = tag == "PROPN" and token.i > 0 and token.text[:1].isupper()
            lemma = noun_lemma(written, plain(token.lemma_) or written, name=name)
            defect = "not_a_word" if token.idx in signs else defect_of(lemma)
        words.append(
            Word(
                index=token.i,
                start=token.idx,
                end=token.idx + len(token.text),
                written=written,
                lemma=lemma,
                tag=tag,
                defect=defect,
                joins=tag in tags
                and defect != "not_a_word"
                and stop_nouns.group(lemma) != NOT_A_NOUN,
                governor=token.head.i if token.dep_ == "compound" else None,
            )
        )
    return words


def compounds_of(words: Sequence[Word], *, linked: bool) -> Iterator[list[Word]]:
    """Yield the maximal compounds, each as its words from left to right, the head last.

    Args:
        words: the words of one Doc, in order.
        linked: whether the Doc has dependencies; else a run of two or three nouns is a compound,
            ended by punctuation or a plural ("cats sit" is not one).
    """
    if linked:
        yield from _linked_runs(words)
    else:
        yield from (run for run in _adjacent_runs(words) if 2 <= len(run) <= MAX_RUN)


def _linked_runs(words: Sequence[Word]) -> Iterator[list[Word]]:
    for position, head in enumerate(words):
        if not head.joins or head.governor is not None:
            continue
        run = [head]
        for word in reversed(words[:position]):
            if not word.joins or word.governor not in {other.index for other in run}:
                break
            run.insert(0, word)
        if len(run) > 1:
            yield run


def _adjacent_runs(words: Sequence[Word]) -> Iterator[list[Word]]:
    run: list[Word] = []
    for word in words:
        # English modifies with the singular: after a plural a new noun begins.
        if run and (not word.joins or _is_plural(run[-1])):
            yield run
            run = []
        if word.joins:
            run.append(word)
    yield run


def _is_plural(word: Word) -> bool:
    return word.written != word.lemma and word.written not in PLURAL_MODIFIERS


def plain(word: str) -> str:
    """Return a word as it is looked up: lower case, composed characters (NFC)."""
    return unicodedata.normalize("NFC", word.lower())


@lru_cache(maxsize=65_536)
def defect_of(lemma: str) -> str | None:
    """Return why this cannot name anything: `not_a_word`, `too_short` or None."""
    letters = sum(char.isalpha() for char in lemma)
    if not letters or not all(_belongs_in_a_word(char) for char in lemma):
        return "not_a_word"
    # One letter is too short in Latin script but may be a word in others.
    return "too_short" if letters < MIN_LETTERS and lemma.isascii() else None


def _belongs_in_a_word(char: str) -> bool:
    return char.isalnum() or char in "-'’.&" or unicodedata.category(char).startswith("M")
