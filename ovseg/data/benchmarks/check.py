"""Checks of a published validation set or a prepared folder, file by file.

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
    """A problem with a file or folder."""

    file: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The result of checking a folder.

    Attributes:
        problems: files and folders with their problems.
        counts: pixels by class of the usable label maps; None if none was read.
    """

    problems: list[Problem]
    counts: LabelCounts | None = None


def check_source(
    name: str, root: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> Checked:
    """Check an owner's folder the way `prepare` reads it, without writing anything.

    Args:
        name: one of `PUBLISHED`.
        root: the folder its owner's archive was unpacked to, or its parent.
        workers: threads that read.
        progress: called with the number of finished images and of all images.

    Raises:
        OvsegError: the name is unknown.
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

    problems = _each(problem, source.pairs, workers, progress, counts)
    notes = [*remarks(spec, source), *([counts.nothing] if counts.nothing else [])]
    notes += doubts(counts, stored_values(spec.vocabulary), spec.others, sorted(dropped))
    of_home = [Problem(str(home), note) for note in notes]
    return Checked(problems=[*of_home, *problems], counts=counts)


def check_prepared(
    name: str, folder: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> Checked:
    """Check a prepared folder the way a benchmark reads it, made by `prepare` or by the user.

    Args:
        name: name of the benchmark; one of `PUBLISHED` must have its published classes.
        folder: has `images/`, `labels/`, `classes.txt`.
        workers: threads that read.
        progress: called with the number of finished images and of all images.
    """
    if (folder / RUN).is_file() and not (folder / RECORD).is_file():
        what = "not finished: run ovseg prepare again to resume"
        return Checked(problems=[Problem(str(folder), what)])
    try:
        benchmark = load_benchmark(name, folder)
    except OvsegError as error:
        return Checked(problems=[Problem(str(folder), str(error))])
    problems = list(_names(name, benchmark, folder))
    problems += _without_partner(benchmark, folder)
    known: set[str] = set()
    for row in recorded(folder / SAMPLES):
        if row["kept"]:
            known |= {row["image"], row["label"]}
            problems += [
                Problem(str(folder / file), what) for file, what in wrong(folder, row).items()
            ]
    reported = {problem.file for problem in problems}
    if known:
        present = (
            path for part in ("images", "labels") for path in sorted((folder / part).iterdir())
        )
        foreign = (
            path
            for path in present
            if path.relative_to(folder).as_posix() not in known and str(path) not in reported
        )
        problems += [Problem(str(path), "not made by ovseg prepare") for path in foreign]

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
    of_samples = _each(problem, benchmark.samples, workers, progress, counts)
    problems += [each for each in of_samples if each.file not in reported]
    if counts.nothing:
        problems.append(Problem(str(folder / "labels"), counts.nothing))
    return Checked(problems=problems, counts=counts)


def _without_partner(benchmark: Benchmark, folder: Path) -> Iterator[Problem]:
    """Report label maps without a readable image, which a benchmark would silently skip."""
    stems = {sample.image.stem for sample in benchmark.samples}
    for path in sorted((folder / "labels").iterdir()):
        if path.suffix.lower() in LABEL_SUFFIXES and path.stem not in stems:
            endings = ", ".join(IMAGE_SUFFIXES)
            yield Problem(str(path), f"no image of that name in images/ ({endings})")


def _names(name: str, benchmark: Benchmark, folder: Path) -> Iterator[Problem]:
    """Report class names that differ from those of the published evaluation."""
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
    """Return the problems of all items, and count the label maps of the others."""
    counting = Lock()

    def look(item: T) -> Problem | None:
        result = problem(item)
        if isinstance(result, Problem):
            return result
        with counting:
            counts.add(result)
        return None

    problems = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, each in enumerate(pool.map(look, items), start=1):
            progress(done, len(items))
            if each is not None:
                problems.append(each)
    return problems
