"""Class names, synonyms, prompts and stored values of the benchmarks.

All of it is data in `ovseg/data/benchmarks/vocabularies/`, whose README names the sources; the
storybook's classes are its own catalogue.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ovseg.errors import OvsegError

FOLDER = Path(__file__).parent / "vocabularies"


@dataclass(frozen=True)
class ClassName:
    """One class of a benchmark.

    Attributes:
        class_id: its index, from 0, as in confusion matrices.
        name: the name the benchmark gives it, which may list several words.
        synonyms: other words for it, without the name itself.
    """

    class_id: int
    name: str
    synonyms: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """Name and synonyms as they are compared: lower case, words parted by one space."""
        return frozenset(normalised(word) for word in (self.name, *self.synonyms))


def normalised(word: str) -> str:
    """A word as it is compared with others, as the view `class_words` does it."""
    return re.sub(r"[\s_-]+", " ", word.lower()).strip()


def vocabulary_names() -> list[str]:
    """The benchmarks whose class names are known, sorted."""
    return sorted(["storybook", *(path.stem for path in FOLDER.glob("*.txt"))])


@cache
def read_vocabulary(benchmark: str) -> tuple[ClassName, ...]:
    """The classes of a benchmark in the order of their ids, as `with_synonyms` has them.

    Raises:
        OvsegError: for a benchmark without a list of names.
    """
    if benchmark == "storybook":
        from ovseg.storybook.categories import CATEGORIES

        return tuple(
            ClassName(class_id=index, name=category.name, synonyms=category.synonyms)
            for index, category in enumerate(CATEGORIES)
        )
    path = FOLDER / f"{benchmark}.txt"
    if not path.is_file():
        raise OvsegError(
            f"no class names of {benchmark!r}: choose one of {', '.join(vocabulary_names())}"
        )
    listed: dict[str, list[str]] = {}
    for row in _rows("synonyms.tsv", benchmark):
        listed.setdefault(row["class_name"], []).append(row["synonym"])
    return with_synonyms(path.read_text(encoding="utf-8").splitlines(), listed)


def with_synonyms(
    names: Sequence[str], listed: Mapping[str, Iterable[str]]
) -> tuple[ClassName, ...]:
    """Classes with the words that stand for them.

    A name that lists words by commas is one name; its parts are synonyms, except those that are
    another class's name.

    Args:
        names: of the classes in the order of their ids.
        listed: further synonyms by name.
    """
    taken = {normalised(name) for name in names}
    return tuple(
        ClassName(
            class_id=index,
            name=name,
            synonyms=tuple(
                dict.fromkeys(
                    word
                    for word in (*_parts(name), *listed.get(name, ()))
                    if word != name
                    and (normalised(word) == normalised(name) or normalised(word) not in taken)
                )
            ),
        )
        for index, name in enumerate(names)
    )


def _parts(name: str) -> list[str]:
    return [part for part in (part.strip() for part in name.split(",")) if part]


def stored_values(benchmark: str) -> tuple[int, ...]:
    """The value that stands for each class in the label maps as their owner publishes them.

    Raises:
        OvsegError: for a benchmark whose values are not known.
    """
    found = {row["class_name"]: int(row["value"]) for row in _rows("values.tsv", benchmark)}
    try:
        return tuple(found[each.name] for each in read_vocabulary(benchmark))
    except KeyError as error:
        raise OvsegError(f"no stored value of class {error} of {benchmark!r} is known") from error


def read_prompts(benchmark: str) -> tuple[tuple[str, int], ...]:
    """Texts that stand for the classes of a benchmark, each with its class's index.

    Only benchmarks whose published evaluation gives the model other texts than the names of its
    classes have any.
    """
    index = {each.name: each.class_id for each in read_vocabulary(benchmark)}
    rows = _rows("prompts.tsv", benchmark)
    return tuple((row["prompt"], index[row["class_name"]]) for row in rows)


def published_splits(benchmark: str) -> dict[str, dict[str, str]]:
    """The published splits of a benchmark by name: `seen` or `unseen` by the name of each class.

    A file `splits/<benchmark>.<split>.<part>.txt` lists one part; the other classes are the other.
    """
    found = {}
    for path in sorted((FOLDER / "splits").glob(f"{benchmark}.*.txt")):
        _, split, part = path.stem.split(".")
        lines = path.read_text(encoding="utf-8").splitlines()
        listed = {line for line in lines if not line.startswith("#")}
        other = "seen" if part == "unseen" else "unseen"
        found[split] = {
            each.name: part if each.name in listed else other for each in read_vocabulary(benchmark)
        }
    return found


@cache
def _table(file: str) -> tuple[dict[str, str], ...]:
    with (FOLDER / file).open(encoding="utf-8", newline="") as stream:
        # a quote in a name is a quote: these files quote nothing
        return tuple(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def _rows(file: str, benchmark: str) -> list[dict[str, str]]:
    return [row for row in _table(file) if row["benchmark"] == benchmark]
