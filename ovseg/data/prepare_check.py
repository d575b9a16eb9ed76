"""What is missing or wrong in a published validation set, or in a prepared folder, file by file.

for problem in check_source("ade20k-150", Path("ADEChallengeData2016")):
print(problem.file, problem.what)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ovseg.data.benchmarks import (
    IMAGE_SUFFIXES,
    LABEL_SUFFIXES,
    Benchmark,
    Sample,
    load_benchmark,
)
from ovseg.data.images import ImageError, read_image
from ovseg.data.label_maps import LabelError
from ovseg.data.prepare import RECORD, RUN, SAMPLES, Progress, recorded, remarks
from ovseg.data.prepared_image import convert, wrong
from ovseg.data.published import PUBLISHED
from ovseg.data.source_layouts import Pair
from ovseg.errors import OvsegError
from ovseg.registry import chosen

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """What is the matter with a file or folder."""

    file: str
    what: str


def check_source(
    name: str, root: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> list[Problem]:
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
        return [Problem(str(root), str(error))]

    def problem(pair: Pair) -> Problem | None:
        try:
            convert(spec, pair, source)
        except ImageError as error:
            return Problem(str(pair.image), str(error))
        except LabelError as error:
            return Problem(str(pair.label), str(error))
        return None

    found = _each(problem, source.pairs, workers, progress)
    return [*(Problem(str(home), note) for note in remarks(spec, source)), *found]


def check_prepared(
    name: str, folder: Path, *, workers: int = 4, progress: Progress = lambda done, total: None
) -> list[Problem]:
    """Go through a prepared folder as a benchmark would: made by `prepare`, or your own.

    Args:
        name: of the benchmark; one of `PUBLISHED` has its published classes.
        folder: `images/`, `labels/`, `classes.txt`.
        workers: threads that read.
        progress: told how many of how many images are done.
    """
    if (folder / RUN).is_file() and not (folder / RECORD).is_file():
        return [Problem(str(folder), "not finished: run ovseg prepare again, it goes on")]
    try:
        benchmark = load_benchmark(name, folder)
    except OvsegError as error:
        return [Problem(str(folder), str(error))]
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

    def problem(sample: Sample) -> Problem | None:
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
        return None

    read = _each(problem, benchmark.samples, workers, progress)
    return [*found, *(each for each in read if each.file not in said)]


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
    problem: Callable[[T], Problem | None],
    items: tuple[T, ...],
    workers: int,
    progress: Progress,
) -> list[Problem]:
    found = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, each in enumerate(pool.map(problem, items), start=1):
            progress(done, len(items))
            if each is not None:
                found.append(each)
    return found
