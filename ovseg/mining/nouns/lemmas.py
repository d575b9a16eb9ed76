"""The singular of an English noun, so that a mention is filed under one name.

A small lemmatizer learns plurals from the words of its treebank and misjudges those it never saw
("buses" to *buse*, "bananas" left alone). Common nouns need no model: their singular follows from
spelling and a table of exceptions, `irregular_plurals.tsv`, where a word may also stand for itself
("scissors"). Names are left to the pipeline, as a final s may belong to them.
"""

import csv
from functools import cache
from pathlib import Path

IRREGULAR_PLURALS = Path(__file__).with_name("irregular_plurals.tsv")

# Ends that carry their irregular plural into compounds: "fishermen", "grandchildren".
_IRREGULAR_ENDS = {
    "children": "child",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "feet": "foot",
    "men": "man",
}
# What carries the singular's own s, and what takes -es for its plural.
_SINGULAR_IN_S = ("ss", "us", "is", "'s", "’s")
_PLURAL_IN_ES = ("ches", "oes", "sses", "shes", "tzes", "xes", "zzes")


def noun_lemma(word: str, predicted: str, *, name: bool = False) -> str:
    """The lemma of a noun.

    Args:
        word: the noun as written, in lower case.
        predicted: the pipeline's lemma, in lower case.
        name: the noun is a proper name, written with a capital: the pipeline decides.

    Returns:
        The singular in lower case; the word itself where it is none.
    """
    return predicted if name else singular(word)


def singular(word: str) -> str:
    """The singular of a noun in lower case, by spelling; the word itself where it has none."""
    irregular = _irregular_plurals()
    if word in irregular:
        return irregular[word]
    for end, one in _IRREGULAR_ENDS.items():
        if word.endswith(end):
            return word.removesuffix(end) + one
    if len(word) < 3 or not word.endswith("s") or word.endswith(_SINGULAR_IN_S):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(_PLURAL_IN_ES) else word[:-1]


@cache
def _irregular_plurals() -> dict[str, str]:
    with IRREGULAR_PLURALS.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["plural"]: row["singular"] for row in rows}
