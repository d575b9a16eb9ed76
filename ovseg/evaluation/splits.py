"""Which classes of a benchmark are seen: by names, by what was trained on, by a published split.

Seen is relative to a training set. The headline split (`miou_union_seen`) is that of `seen`, names
given outright, or of the rule behind `trained_on`: a class is seen if its name or a listed synonym
names a class of a vocabulary whose masks were used in training. A published split (`seen_split`)
stands beside it under names of its own (`miou_union_published_seen`), for papers differ from the
rule. That captions name a class does not make it seen.

A published split is a text file of class names, a line each, `NAME.seen.txt` or `NAME.unseen.txt`
in `ovseg/data/vocabularies/splits/`, or elsewhere under its path; lines from `#` on say where it is
from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ovseg.config import BenchmarkConfig
from ovseg.data.vocabulary import FOLDER, read_vocabulary, vocabulary_names
from ovseg.errors import OvsegError

HEADLINE, PUBLISHED = "", "_published"
"""What marks the two splits in the names of scores."""
_ENDINGS = {".unseen.txt": False, ".seen.txt": True}


def benchmark_splits(config: BenchmarkConfig, classes: Sequence[str]) -> dict[str, list[int]]:
    """The seen classes of a benchmark under each of its splits.

    Args:
        config: `seen`, `trained_on` and `seen_split` of it count.
        classes: K names in order.

    Returns:
        Ascending indices by the split's mark; a split that is not asked for is left out.

    Raises:
        OvsegError: for an unknown vocabulary or split, a split of other classes, or `seen` and
            `trained_on` together.
    """
    if config.seen and config.trained_on:
        raise OvsegError(
            f"benchmark {config.benchmark}: seen and trained_on both say which classes are seen;"
            " set one of them"
        )
    splits = {}
    if config.seen:
        splits[HEADLINE] = named_classes(classes, config.seen)
    elif config.trained_on:
        splits[HEADLINE] = classes_trained_on(config.benchmark, classes, config.trained_on)
    if config.seen_split:
        splits[PUBLISHED] = published_split(config.seen_split, classes)
    return splits


def named_classes(classes: Sequence[str], names: Iterable[str]) -> list[int]:
    """Indices of the classes among names, by stripped lower-case name."""
    known = {name.strip().lower() for name in names}
    return [index for index, name in enumerate(classes) if name.strip().lower() in known]


# --------------------------------------------------------------------------------------
# The rule


def classes_trained_on(
    benchmark: str, classes: Sequence[str], vocabularies: Iterable[str]
) -> list[int]:
    """Indices of the classes that share a word with a class of one of the vocabularies.

    Args:
        benchmark: whose listed synonyms count for classes of the same name.
        classes: K names; one with commas, as ADE20K has them, holds several.
        vocabularies: names of those whose masks were used in training.

    Raises:
        OvsegError: for a vocabulary that is not there.
    """
    trained: set[str] = set()
    for name in vocabularies:
        trained.update(*(_words(each.name, each.synonyms) for each in read_vocabulary(name)))
    listed = {}
    if benchmark in vocabulary_names():
        listed = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    return [
        index for index, name in enumerate(classes) if trained & _words(name, listed.get(name, ()))
    ]


def _words(name: str, synonyms: Iterable[str]) -> set[str]:
    """Every word for a class, normalised as `sql/views/50_class_words.sql` does."""
    words = [name, *name.split(","), *synonyms]
    return {re.sub(r"[\s_-]+", " ", word.lower()).strip() for word in words} - {""}


# --------------------------------------------------------------------------------------
# Published splits


def published_split(name: str, classes: Sequence[str]) -> list[int]:
    """Indices of the seen classes of a published split.

    Args:
        name: of a split in `ovseg/data/vocabularies/splits/`, or the path of such a file.
        classes: K names, among which all of the file's must be.

    Raises:
        OvsegError: no such split, or one of other classes.
    """
    path, lists_seen = _split_file(name)
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    listed = named_classes(classes, names)
    known = {each.strip().lower() for each in classes}
    if missing := [each for each in names if each.lower() not in known]:
        raise OvsegError(
            f"split {name} names {missing[0]!r}, which is no class of this benchmark: it is a split"
            " of other classes, leave benchmarks.seen_split empty or choose another"
        )
    rest = [index for index in range(len(classes)) if index not in set(listed)]
    return listed if lists_seen else rest


def _split_file(name: str) -> tuple[Path, bool]:
    """The file of a split, and whether it lists the seen classes."""
    places = [(FOLDER / "splits" / f"{name}{ending}", s) for ending, s in _ENDINGS.items()]
    places += [(Path(name), s) for ending, s in _ENDINGS.items() if name.endswith(ending)]
    for path, lists_seen in places:
        if path.is_file():
            return path, lists_seen
    there = {path.name.split(".")[0] for path in (FOLDER / "splits").glob("*seen.txt")}
    raise OvsegError(
        f"benchmarks.seen_split: there is no split {name!r}; choose one of"
        f" {', '.join(sorted(there)) or 'none'}, or give the path of a .seen.txt or .unseen.txt"
    )
