"""What a caption says of a noun: its adjectives, and the place it is at ("on the grass").

Where a pipeline parses dependencies, they tell: adjectives are `amod` children, a place hangs as
`prep` on the noun or on the verb the noun is subject of. Without, what stands beside the noun is
taken for its own, which in the short sentences of captions it mostly is. Prompts that put a class
into its usual context are made of both (`ovseg.models.texts.strategies`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spacy.tokens import Doc, Token

from ovseg.mining.nouns.stop_nouns import StopNouns
from ovseg.mining.nouns.words import MAX_RUN, Word, defect_of, plain

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
"""What taggers call an adjective and nobody can see."""

_NOUN = ("NOUN", "PROPN")
_BETWEEN_ADJECTIVES = ("PUNCT", "CCONJ")
_OF_THE_OBJECT = ("ADJ", "NUM", "ADV", "NOUN", "PROPN")


@dataclass(frozen=True, slots=True)
class Context:
    """What stands with one noun; `adjectives` in their order, `place` as "on the grass"."""

    adjectives: tuple[str, ...] = ()
    place: str | None = None


def contexts_of(doc: Doc, words: Sequence[Word], *, stop_nouns: StopNouns) -> dict[int, Context]:
    """The context of each noun.

    A place is shortened to what is common to many captions: no adjectives, and "the" for any
    article. One whose noun is a stop noun ("in the background") is none.

    Args:
        doc: parsed or only tagged.
        words: of the Doc, see `words_of`.
        stop_nouns: nouns that name no place.

    Returns:
        By index of the noun's token.
    """
    linked = doc.has_annotation("DEP")
    lemmas = {word.index: word.lemma for word in words}
    found = {}
    for position, word in enumerate(words):
        if word.tag in _NOUN:
            if linked:
                adjectives = _linked_adjectives(doc[word.index])
                place = _linked_place(doc[word.index])
            else:
                adjectives = _adjacent_adjectives(words, position)
                place = _adjacent_place(words, position)
            said = place and not stop_nouns.group(lemmas.get(place[1], ""))
            found[word.index] = Context(
                adjectives=tuple(dict.fromkeys(filter(_is_attribute, adjectives))),
                place=place[0] if place and said else None,
            )
    return found


def _is_attribute(adjective: str) -> bool:
    return adjective not in NOT_AN_ATTRIBUTE and defect_of(adjective) is None


def _phrase(preposition: str, between: Iterable[str], noun: str) -> str:
    """A place; `between` holds the parts of speech from the preposition to the noun."""
    article = "the " if {"DET", "PRON"} & set(between) else ""
    return f"{preposition} {article}{noun}"


# --------------------------------------------------------------------------------------
# By dependencies


def _linked_adjectives(noun: Token) -> list[str]:
    return [
        plain(child.text) for child in noun.lefts if child.dep_ == "amod" and child.pos_ == "ADJ"
    ]


def _linked_place(noun: Token) -> tuple[str, int] | None:
    """The phrase and the index of its noun."""
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
# By what stands beside it


def _adjacent_adjectives(words: Sequence[Word], position: int) -> list[str]:
    start = position
    while start and position - start < MAX_RUN - 1 and words[start - 1].tag in _NOUN:
        start -= 1  # over the modifiers of a compound
    found: list[str] = []
    for word in reversed(words[:start]):
        if word.tag == "ADJ":
            found.insert(0, word.written)
        elif not found or word.tag not in _BETWEEN_ADJECTIVES:
            break
    return found


def _adjacent_place(words: Sequence[Word], position: int) -> tuple[str, int] | None:
    """The phrase and the index of its noun: after the noun, at most a verb with its auxiliary."""
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
