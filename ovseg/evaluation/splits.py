"""The seen classes of a benchmark: by name, by what was trained on, or by a published split.

Seen is relative to a training set. The headline split (`miou_union_seen`) is that of `seen`,
explicit names, or of the rule behind `trained_on`: a class is seen if its name or a listed synonym
names a class of a vocabulary whose masks were used in training. A published split (`seen_split`) is
scored in addition, under names of its own (`miou_union_published_seen`), because papers differ from
the rule. A class is not seen just because captions name it.

A published split is one of `ovseg.data.benchmarks.vocabulary.published_splits`, or your own TSV
file with the columns class_name and part (`seen` or `unseen`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.vocabulary import (
    published_splits,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)
from ovseg.errors import OvsegError

HEADLINE, PUBLISHED = "", "_published"
"""The marks of the two splits in the names of scores."""


def benchmark_splits(config: BenchmarkConfig, classes: Sequence[str]) -> dict[str, list[int]]:
    """Return the seen classes of a benchmark under each of its splits.

    Args:
        config: its `seen`, `trained_on` and `seen_split` are used.
        classes: K names in order.

    Returns:
        Ascending indices by the split's mark; only the configured splits.

    Raises:
        OvsegError: for an unknown vocabulary or split, a split of other classes, or `seen` and
            `trained_on` together.
    """
    if config.seen and config.trained_on:
        raise OvsegError(
            f"benchmark {config.benchmark}: seen and trained_on both say which classes are seen;"
            " set one of them, the other to []"
        )
    splits = {}
    if config.seen:
        splits[HEADLINE] = named_classes(classes, config.seen)
    elif config.trained_on:
        splits[HEADLINE] = classes_trained_on(config.benchmark, classes, config.trained_on)
    if config.seen_split:
        splits[PUBLISHED] = published_split(config.benchmark, config.seen_split, classes)
    return splits


def named_classes(classes: Sequence[str], names: Iterable[str]) -> list[int]:
    """Return the indices of the classes that are among `names`, stripped and in lower case."""
    known = {name.strip().lower() for name in names}
    return [index for index, name in enumerate(classes) if name.strip().lower() in known]


# --------------------------------------------------------------------------------------
# The rule


def classes_trained_on(
    benchmark: str, classes: Sequence[str], vocabularies: Iterable[str]
) -> list[int]:
    """Return the indices of the classes that share a word with a class of one of the vocabularies.

    Args:
        benchmark: its listed synonyms count for classes of the same name.
        classes: K names; one with commas holds several, as in ADE20K.
        vocabularies: names of the vocabularies whose masks were used in training.

    Raises:
        OvsegError: for an unknown vocabulary.
    """
    trained = {
        word for name in vocabularies for each in read_vocabulary(name) for word in each.words
    }
    listed: Mapping[str, Sequence[str]] = {}
    if benchmark in vocabulary_names():
        listed = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    return [each.class_id for each in with_synonyms(classes, listed) if trained & each.words]


# --------------------------------------------------------------------------------------
# Published splits


def published_split(benchmark: str, split: str, classes: Sequence[str]) -> list[int]:
    """Return the indices of the seen classes of a published split.

    Args:
        benchmark: its name.
        split: a split of that benchmark, such as `156-15`, or the path of a TSV file.
        classes: K names; the split must have a part for each and name no other.

    Raises:
        OvsegError: for an unknown split, or one of other classes.
    """
    own = split.endswith(".tsv")
    parts = _folded(_own_split(Path(split)) if own else _shipped_split(benchmark, split))
    indices = {name.strip().lower(): index for index, name in enumerate(classes)}
    wrong = [*(name for name in parts if name not in indices), *(set(indices) - set(parts))]
    if wrong:
        raise OvsegError(
            f"split {split} and benchmark {benchmark} do not name the same classes: {wrong[0]!r}"
            " is only in one of them; choose a split of these classes or leave"
            " benchmarks.seen_split empty"
        )
    return sorted(indices[name] for name, part in parts.items() if part == "seen")


def _shipped_split(benchmark: str, split: str) -> dict[str, str]:
    there = published_splits(benchmark)
    if split in there:
        return there[split]
    raise OvsegError(
        f"benchmarks.seen_split: {benchmark} has no split {split!r}; choose one of"
        f" {', '.join(there) or 'none'}, or give the path of a .tsv with the columns class_name and"
        " part"
    )


def _own_split(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [*csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    except (OSError, ValueError, csv.Error) as error:
        raise OvsegError(f"{path} cannot be read as a split ({error}): correct the path") from error
    if missing := {"class_name", "part"} - set(rows[0] if rows else ()):
        raise OvsegError(
            f"{path} is not a split: the column {min(missing)} is missing; it needs a header and"
            " the columns class_name and part, separated by a tab"
        )
    if other := {row["part"] for row in rows} - {"seen", "unseen"}:
        raise OvsegError(
            f"{path}: a part is seen or unseen, not {min(other, key=str)!r}; correct it"
        )
    return {row["class_name"]: row["part"] for row in rows}


def _folded(parts: Mapping[str, str]) -> dict[str, str]:
    """Map normalized class names to parts, as `named_classes` normalizes them."""
    return {name.strip().lower(): part for name, part in parts.items()}
