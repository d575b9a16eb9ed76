"""Class names and synonyms of the benchmarks, from `ovseg/data/vocabularies/` and the storybook."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ovseg.errors import OvsegError

FOLDER = Path(__file__).parent / "vocabularies"


@dataclass(frozen=True)
class ClassName:
    """One class of a benchmark.

    Attributes:
        class_id: its index, from 0, as in confusion matrices.
        name: the name the benchmark gives it.
        synonyms: other words for it, without the name itself.
    """

    class_id: int
    name: str
    synonyms: tuple[str, ...]


def vocabulary_names() -> list[str]:
    """The benchmarks whose class names are known, sorted."""
    return sorted(["storybook", *(path.stem for path in FOLDER.glob("*.txt"))])


def read_vocabulary(benchmark: str) -> tuple[ClassName, ...]:
    """The classes of a benchmark in the order of their ids.

    Raises:
        OvsegError: for a benchmark without a list of names.
    """
    if benchmark == "storybook":
        from ovseg.storybook.catalogue import CATEGORIES

        return tuple(
            ClassName(class_id=index, name=category.name, synonyms=category.synonyms)
            for index, category in enumerate(CATEGORIES)
        )
    path = FOLDER / f"{benchmark}.txt"
    if not path.is_file():
        raise OvsegError(
            f"no class names of {benchmark!r}: choose one of {', '.join(vocabulary_names())}"
        )
    synonyms = _synonyms(benchmark)
    names = path.read_text(encoding="utf-8").splitlines()
    return tuple(
        ClassName(class_id=index, name=name, synonyms=synonyms.get(name, ()))
        for index, name in enumerate(names)
    )


def _synonyms(benchmark: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    with (FOLDER / "synonyms.tsv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if row["benchmark"] == benchmark:
                name = row["class_name"]
                found[name] = (*found.get(name, ()), row["synonym"])
    return found
