"""Class names, synonyms, prompts and stored values of the benchmarks.

They are data files in `ovseg/data/benchmarks/vocabularies/`, whose README names the sources; the
storybook's classes are its own categories.
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
        name: the benchmark's name for it, which may list several words.
        synonyms: other words for it, without the name itself.
    """

    class_id: int
    name: str
    synonyms: tuple[str, ...]

    @property
    def words(self) -> frozenset[str]:
        """Name and synonyms in the form for comparison: lower case, words separated by a space."""
        return frozenset(normalized(word) for word in (self.name, *self.synonyms))


def normalized(word: str) -> str:
    """Normalize a word for comparison, as the view `class_words` does."""
    return re.sub(r"[\s_-]+", " ", word.lower()).strip()


def vocabulary_names() -> list[str]:
    """Return the benchmarks whose class names are known, sorted."""
    return sorted(["storybook", *(path.stem for path in FOLDER.glob("*.txt"))])


@cache
def read_vocabulary(benchmark: str) -> tuple[ClassName, ...]:
    """Return the classes of a benchmark in the order of their ids; see `with_synonyms`.

    Raises:
        OvsegError: the benchmark has no list of names.
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
    synonyms: dict[str, list[str]] = {}
    for row in _rows("synonyms.tsv", benchmark):
        synonyms.setdefault(row["class_name"], []).append(row["synonym"])
    return with_synonyms(path.read_text(encoding="utf-8").splitlines(), synonyms)


def with_synonyms(
    names: Sequence[str], listed: Mapping[str, Iterable[str]]
) -> tuple[ClassName, ...]:
    """Build classes from names and synonyms.

    The parts of a name with commas are synonyms of the whole name, except those that are another
    class's name.

    Args:
        names: names of the classes in the order of their ids.
        listed: name to more synonyms.
    """
    class_words = {normalized(name) for name in names}
    return tuple(
        ClassName(
            class_id=index,
            name=name,
            synonyms=tuple(
                dict.fromkeys(
                    word
                    for word in (*_parts(name), *listed.get(name, ()))
                    if word != name
                    and (
                        normalized(word) == normalized(name) or normalized(word) not in class_words
                    )
                )
            ),
        )
        for index, name in enumerate(names)
    )


def _parts(name: str) -> list[str]:
    return [part for part in (part.strip() for part in name.split(",")) if part]


def stored_values(benchmark: str) -> tuple[int, ...]:
    """Return the value of each class in the label maps that their owner publishes.

    Raises:
        OvsegError: the values of the benchmark are not known.
    """
    values = {row["class_name"]: int(row["value"]) for row in _rows("values.tsv", benchmark)}
    try:
        return tuple(values[each.name] for each in read_vocabulary(benchmark))
    except KeyError as error:
        raise OvsegError(f"no stored value of class {error} of {benchmark!r} is known") from error


def read_prompts(benchmark: str) -> tuple[tuple[str, int], ...]:
    """Return texts used instead of a benchmark's class names, each with its class index.

    Only benchmarks whose published evaluation does not use the class names have any.
    """
    index = {each.name: each.class_id for each in read_vocabulary(benchmark)}
    rows = _rows("prompts.tsv", benchmark)
    return tuple((row["prompt"], index[row["class_name"]]) for row in rows)


def published_splits(benchmark: str) -> dict[str, dict[str, str]]:
    """Return the published splits of a benchmark: split to class name to `seen` or `unseen`.

    A file `splits/<benchmark>.<split>.<part>.txt` lists one part; the other classes form the other.
    """
    splits = {}
    for path in sorted((FOLDER / "splits").glob(f"{benchmark}.*.txt")):
        _, split, part = path.stem.split(".")
        lines = path.read_text(encoding="utf-8").splitlines()
        names = {line for line in lines if not line.startswith("#")}
        other = "seen" if part == "unseen" else "unseen"
        splits[split] = {
            each.name: part if each.name in names else other for each in read_vocabulary(benchmark)
        }
    return splits


@cache
def _table(file: str) -> tuple[dict[str, str], ...]:
    with (FOLDER / file).open(encoding="utf-8", newline="") as stream:
        # quotation marks are literal: these files do not quote
        return tuple(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def _rows(file: str, benchmark: str) -> list[dict[str, str]]:
    return [row for row in _table(file) if row["benchmark"] == benchmark]
