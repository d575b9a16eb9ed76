"""The context a caption gives a noun: its adjectives and its place ("on the grass").

If the pipeline parses dependencies, adjectives are `amod` children, and a place is attached as
`prep` to the noun or to the verb the noun is the subject of. Otherwise the words next to the noun
are taken as its context, which is mostly right in the short sentences of captions. Prompts that put
a class into its usual context are made of both (`ovseg.models.texts.strategies`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.mining.nouns.words import MAX_RUN, Word, defect_of, plain

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

PLACING = frozenset(
    (
        *("in", "on", "at", "by", "near", "under", "behind", "beside", "above", "below", "over"),
        *("inside", "along", "against", "beneath", "beyond", "across", "around", "outside"),
        "among",
    )
)
"""Prepositions that say where something is."""

NOT_AN_ATTRIBUTE = frozenset(
    (
        *("other", "many", "several", "few", "more", "most", "much", "same", "own", "such"),
        *("first", "last", "next", "different", "various"),
    )
)
"""Words that taggers call adjectives but that nobody can see."""

_NOUN = ("NOUN", "PROPN")
_BETWEEN_ADJECTIVES = ("PUNCT", "CCONJ")
_OF_THE_OBJECT = ("ADJ", "NUM", "ADV", "NOUN", "PROPN")


@dataclass(frozen=True, slots=True)
class Context:
    """The context of one noun; `adjectives` in order, `place` such as "on the grass"."""

    adjectives: tuple[str, ...] = ()
    place: str | None = None


def contexts_of(doc: Doc, words: Sequence[Word], *, stop_nouns: StopNouns) -> dict[int, Context]:
    """Return the context of each noun.

    A place is shortened to a form that many captions share: no adjectives, and "the" for any
    article. A place whose noun is a stop noun ("in the background") is left out.

    Args:
        doc: parsed or only tagged.
        words: the Doc's words, see `words_of`.
        stop_nouns: nouns that do not name a place.

    Returns:
        Contexts keyed by the index of the noun's token.
    """
    linked = doc.has_annotation("DEP")
    lemmas = {word.index: word.lemma for word in words}
    contexts = {}
    for position, word in enumerate(words):
        if word.tag in _NOUN:
            if linked:
                adjectives = _linked_adjectives(doc[word.index])
                place = _linked_place(doc[word.index])
            else:
                adjectives = _adjacent_adjectives(words, position)
                place = _adjacent_place(words, position)
            is_visible_place = place and not stop_nouns.group(lemmas.get(place[1], ""))
            contexts[word.index] = Context(
                adjectives=tuple(dict.fromkeys(filter(_is_attribute, adjectives))),
                place=place[0] if place and is_visible_place else None,
            )
    return contexts


def _is_attribute(adjective: str) -> bool:
    return adjective not in NOT_AN_ATTRIBUTE and defect_of(adjective) is None


def _phrase(preposition: str, between: Iterable[str], noun: str) -> str:
    """Build a place; `between` holds the parts of speech from the preposition to the noun."""
    article = "the " if {"DET", "PRON"} & set(between) else ""
    return f"{preposition} {article}{noun}"


# --------------------------------------------------------------------------------------
# By dependencies


def _linked_adjectives(noun: Token) -> list[str]:
    return [
        plain(child.text) for child in noun.lefts if child.dep_ == "amod" and child.pos_ == "ADJ"
    ]


def _linked_place(noun: Token) -> tuple[str, int] | None:
    """Return the phrase and the index of its noun."""
    holders = [noun, noun.head] if noun.dep_ in ("nsubj", "nsubjpass") else [noun]
    for holder in holders:
        for preposition in holder.rights:
            if preposition.dep_ == "prep" and plain(preposition.text) in PLACING:
                for object_ in preposition.rights:
                    if object_.dep_ == "pobj" and object_.pos_ in _NOUN and object_ != noun:
                        between = [child.pos_ for child in object_.lefts]
                        phrase = _phrase(plain(preposition.text), between, plain(object_.text))
                        return phrase, object_.i
    return None


# --------------------------------------------------------------------------------------
# By neighboring words


def _adjacent_adjectives(words: Sequence[Word], position: int) -> list[str]:
    start = position
    while start and position - start < MAX_RUN - 1 and words[start - 1].tag in _NOUN:
        start -= 1  # over the modifiers of a compound
    adjectives: list[str] = []
    for word in reversed(words[:start]):
        if word.tag == "ADJ":
            adjectives.insert(0, word.written)
        elif not adjectives or word.tag not in _BETWEEN_ADJECTIVES:
            break
    return adjectives


def _adjacent_place(words: Sequence[Word], position: int) -> tuple[str, int] | None:
    """Return the phrase and its noun's index; at most a verb and its auxiliary may come before."""
    rest = list(words[position + 1 :])
    for verb in ("AUX", "VERB"):
        if rest and rest[0].tag == verb:
            rest.pop(0)
    if not rest or rest[0].tag != "ADP" or rest[0].written not in PLACING:
        return None
    preposition, *behind = rest
    between: list[str] = []
    for number, word in enumerate(behind):
        ends = number + 1 == len(behind) or behind[number + 1].tag not in _NOUN
        if word.tag in _NOUN and ends:
            return _phrase(preposition.written, between, word.written), word.index
        if word.tag not in (*_OF_THE_OBJECT, "DET", "PRON"):
            return None
        between.append(word.tag)
    return None
