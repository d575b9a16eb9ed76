"""The singular of an English noun, so that all mentions share one name.

A small lemmatizer learns plurals from the words of its treebank and misjudges those it never saw
("buses" to *buse*, "bananas" left alone). Common nouns need no model: their singular follows from
spelling and a table of exceptions, `irregular_plurals.tsv`, in which a word may map to itself
("scissors"). Names are left to the pipeline, because a final s may belong to them.
"""

import csv
from functools import cache
from pathlib import Path

IRREGULAR_PLURALS = Path(__file__).with_name("irregular_plurals.tsv")

# Endings that keep their irregular plural in compounds: "fishermen", "grandchildren".
_IRREGULAR_ENDS = {
    "children": "child",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "feet": "foot",
    "men": "man",
}
# Endings whose s belongs to the singular, and endings whose plural takes -es.
_SINGULAR_IN_S = ("ss", "us", "is", "'s", "’s")
_PLURAL_IN_ES = ("ches", "oes", "sses", "shes", "tzes", "xes", "zzes")


def noun_lemma(word: str, predicted: str, *, name: bool = False) -> str:
    """Return the lemma of a noun.

    Args:
        word: the noun as written, in lower case.
        predicted: the pipeline's lemma, in lower case.
        name: whether the noun is a capitalized proper name; then the pipeline decides.

    Returns:
        The singular in lower case; the word itself if it is not a plural.
    """
    return predicted if name else singular(word)


def singular(word: str) -> str:
    """Return the singular of a lower-case noun by its spelling; the word itself if it has none."""
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
