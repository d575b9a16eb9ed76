"""What is missing or wrong in a published validation set, or in a prepared folder, file by file.

checked = check_source("ade20k-150", Path("ADEChallengeData2016"))
for problem in checked.problems:
print(problem.file, problem.what)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

from ovseg.config.registry import chosen
from ovseg.data.benchmarks.benchmark import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    Benchmark,
    Sample,
    load_benchmark,
)
from ovseg.data.benchmarks.label_counts import LabelCounts, doubts
from ovseg.data.benchmarks.label_maps import LabelError, Labels
from ovseg.data.benchmarks.layouts import Pair
from ovseg.data.benchmarks.prepare import RECORD, RUN, SAMPLES, Progress, recorded, remarks
from ovseg.data.benchmarks.prepared_image import convert, wrong
from ovseg.data.benchmarks.published import PUBLISHED
from ovseg.data.benchmarks.vocabulary import stored_values
from ovseg.data.images import ImageError, read_image
from ovseg.errors import OvsegError

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """What is the matter with a file or folder."""

    file: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a look at a folder came to.

    Attributes:
        problems: files and folders with what is the matter with them.
        counts: pixels by class of the label maps that can be used; None where none was looked at.
    """

    problems: list[Problem]
    counts: LabelCounts | None = None


def check_source(
    name: str, root: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> Checked:
    """Go through an owner's folder as `prepare` would, without writing anything.

    Args:
        name: one of `PUBLISHED`.
        root: the folder its owner's archive was unpacked to, or the one above it.
        workers: threads that read.
        progress: told how many of how many images are done.

    Raises:
        OvsegError: an unknown name.
    """
    spec = chosen(PUBLISHED, name, setting="ovseg prepare")
    try:
        home, source = spec.open(root)
    except OvsegError as error:
        return Checked(problems=[Problem(str(root), str(error))])
    counts = LabelCounts([each.name for each in spec.classes])
    dropped: list[str] = []

    def problem(pair: Pair) -> Problem | Labels:
        try:
            return convert(spec, pair, source)[2]
        except ImageError as error:
            return Problem(str(pair.image), str(error))
        except LabelError as error:
            dropped.append(str(error))
            return Problem(str(pair.label), str(error))

    found = _each(problem, source.pairs, workers, progress, counts)
    notes = [*remarks(spec, source), *([counts.nothing] if counts.nothing else [])]
    notes += doubts(counts, stored_values(spec.vocabulary), spec.others, sorted(dropped))
    return Checked(problems=[*(Problem(str(home), each) for each in notes), *found], counts=counts)


def check_prepared(
    name: str, folder: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> Checked:
    """Go through a prepared folder as a benchmark would: made by `prepare`, or your own.

    Args:
        name: of the benchmark; one of `PUBLISHED` has its published classes.
        folder: `images/`, `labels/`, `classes.txt`.
        workers: threads that read.
        progress: told how many of how many images are done.
    """
    if (folder / RUN).is_file() and not (folder / RECORD).is_file():
        what = "not finished: run ovseg prepare again, it goes on"
        return Checked(problems=[Problem(str(folder), what)])
    try:
        benchmark = load_benchmark(name, folder)
    except OvsegError as error:
        return Checked(problems=[Problem(str(folder), str(error))])
    found = list(_names(name, benchmark, folder))
    found += _without_partner(benchmark, folder)
    known: set[str] = set()
    for row in recorded(folder / SAMPLES):
        if row["kept"]:
            known |= {row["image"], row["label"]}
            found += [
                Problem(str(folder / file), what) for file, what in wrong(folder, row).items()
            ]
    said = {problem.file for problem in found}
    if known:
        there = (
            path for part in ("images", "labels") for path in sorted((folder / part).iterdir())
        )
        strange = (
            path
            for path in there
            if path.relative_to(folder).as_posix() not in known and str(path) not in said
        )
        found += [Problem(str(path), "not made by ovseg prepare") for path in strange]

    def problem(sample: Sample) -> Problem | Labels:
        try:
            shape = read_image(sample.image).shape[:2]
        except ImageError as error:
            return Problem(str(sample.image), str(error))
        try:
            labels = benchmark.labels(sample)
        except LabelError as error:
            return Problem(str(sample.label), str(error))
        if labels.shape != shape:
            return Problem(str(sample.label), "label map of another size than the image")
        return labels

    counts = LabelCounts(benchmark.classes)
    read = _each(problem, benchmark.samples, workers, progress, counts)
    found += [each for each in read if each.file not in said]
    if counts.nothing:
        found.append(Problem(str(folder / "labels"), counts.nothing))
    return Checked(problems=found, counts=counts)


def _without_partner(benchmark: Benchmark, folder: Path) -> Iterator[Problem]:
    """Label maps without an image that is read, which a benchmark would pass over in silence."""
    stems = {sample.image.stem for sample in benchmark.samples}
    for path in sorted((folder / "labels").iterdir()):
        if path.suffix.lower() in LABEL_SUFFIXES and path.stem not in stems:
            endings = ", ".join(IMAGE_SUFFIXES)
            yield Problem(str(path), f"no image of that name in images/ ({endings})")


def _names(name: str, benchmark: Benchmark, folder: Path) -> Iterator[Problem]:
    """Class names that are not those of the published evaluation."""
    if name not in PUBLISHED:
        return
    published = tuple(each.name for each in PUBLISHED[name].classes)
    if benchmark.classes == published:
        return
    pairs = zip(benchmark.classes, published)
    line = next((i for i, (own, other) in enumerate(pairs) if own != other), None)
    what = f"{len(benchmark.classes)} classes, {name} has {len(published)}"
    if line is not None:
        what = f"line {line + 1} is {benchmark.classes[line]!r}, published is {published[line]!r}"
    yield Problem(str(folder / "classes.txt"), what)


def _each(
    problem: Callable[[T], Problem | Labels],
    items: tuple[T, ...],
    workers: int,
    progress: Progress,
    counts: LabelCounts,
) -> list[Problem]:
    """The problems of all items; the label maps of the others are counted."""
    counting = Lock()

    def look(item: T) -> Problem | None:
        found = problem(item)
        if isinstance(found, Problem):
            return found
        with counting:
            counts.add(found)
        return None

    problems = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, each in enumerate(pool.map(look, items), start=1):
            progress(done, len(items))
            if each is not None:
                problems.append(each)
    return problems
