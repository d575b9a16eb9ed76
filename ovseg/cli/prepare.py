"""Prepare a published benchmark, or print what is wrong with one.

ovseg prepare ade20k-150 --root ADEChallengeData2016 --out data
ovseg prepare --check ade20k-150 --out data
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ovseg.data.benchmarks.check import Problem, check_prepared, check_source
from ovseg.data.benchmarks.label_counts import LabelCounts
from ovseg.data.benchmarks.prepare import prepare
from ovseg.data.benchmarks.published import PUBLISHED
from ovseg.errors import OvsegError
from ovseg.files.terminal import Terminal

SHOWN = 40
"""Maximum number of files in a table; the number of others is printed below."""


def prepare_command(
    name: str | None,
    *,
    root: Path | None,
    out: Path | None,
    check: bool = False,
    copy: bool = False,
    synonyms: bool = False,
    workers: int = 4,
    console: Console | None = None,
) -> None:
    """Run `ovseg prepare`.

    Args:
        name: of the benchmark; without one, the known ones are listed.
        root: folder of the unpacked data set.
        out: the folder of prepared benchmarks.
        check: only check.
        copy: copy images instead of linking them.
        synonyms: prompt with synonyms too.
        workers: number of threads.
        console: for output.

    Raises:
        OvsegError: if an option is missing or a check fails.
    """
    console = console or Terminal()
    if name is None:
        if root is not None or out is not None:
            raise OvsegError(f"which benchmark? give one of {', '.join(PUBLISHED)}")
        _list(console)
    elif check:
        _check(name, root, out, workers, console)
    elif root is None or out is None:
        raise OvsegError(
            "give --root, the folder of the unpacked data set, and --out, the folder of"
            " prepared benchmarks"
        )
    else:
        with _bar(console) as bar:
            task = bar.add_task(name, total=None)
            made = prepare(
                name,
                root=root,
                out=out,
                copy=copy,
                synonyms=synonyms,
                workers=workers,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        if made.dropped:
            _show("left out", [Problem(k, str(n)) for k, n in made.dropped.items()], console)
        absent = [made.counts.absent] if made.counts.absent else []
        for note in (*made.notes, *made.doubts, *absent):
            console.print(Text(f"note: {note}"), soft_wrap=True)
        kept = sum(1 for row in made.rows if row["kept"])
        there = len(made.rows) - made.made
        again = f", {there} of them existed already" if there else ""
        following = f"; next: ovseg prepare --check {name} --out {out}"
        console.print(Text(f"{made.folder}: {kept} images{again}{following}"), soft_wrap=True)


def _check(name: str, root: Path | None, out: Path | None, workers: int, console: Console) -> None:
    if root is None and out is None:
        raise OvsegError("nothing to check: give --root, --out, or both")
    found: list[Problem] = []
    counted: list[tuple[Path, LabelCounts]] = []
    with _bar(console) as bar:
        for look, folder in (
            (check_source, root),
            (check_prepared, None if out is None else out / name),
        ):
            if folder is not None:
                task = bar.add_task(str(folder), total=None)
                checked = look(
                    name,
                    folder,
                    workers=workers,
                    progress=lambda done, total, task=task: bar.update(  # type: ignore[misc]
                        task, completed=done, total=total
                    ),
                )
                found += checked.problems
                counted += [] if checked.counts is None else [(folder, checked.counts)]
    for folder, counts in counted:
        _show_counts(folder, counts, console)
    if found:
        _show("file", found, console)
        s = "" if len(found) == 1 else "s"
        raise OvsegError(f"{name}: {len(found)} problem{s} found; see docs/benchmarks.md")
    console.print(Text(f"{name}: nothing is missing or wrong"))


def _show_counts(folder: Path, counts: LabelCounts, console: Console) -> None:
    """Print pixels by class, largest first, and the classes without pixels."""
    if not counts.maps:
        return
    everything = max(1, int(counts.pixels.sum()) + counts.ignored)
    table = Table(box=None, pad_edge=False)
    table.add_column("class", overflow="fold")
    table.add_column("pixels", justify="right")
    table.add_column("share", justify="right")
    order = sorted(range(len(counts.names)), key=lambda index: -int(counts.pixels[index]))
    for index in order[:SHOWN]:
        pixels = int(counts.pixels[index])
        table.add_row(Text(counts.names[index]), f"{pixels:,}", f"{pixels / everything:.1%}")
    console.print(table)
    if len(order) > SHOWN:
        console.print(f"and {len(order) - SHOWN} more classes")
    share = f"{counts.ignored / everything:.1%}"
    console.print(Text(f"{folder}: {share} of all pixels do not count"), soft_wrap=True)
    if counts.absent:
        console.print(Text(f"warning: {counts.absent}"), soft_wrap=True)


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def _show(heading: str, problems: list[Problem], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column(heading, overflow="fold")
    table.add_column("images" if heading == "left out" else "what is wrong", overflow="fold")
    for each in problems[:SHOWN]:
        table.add_row(Text(each.file), Text(each.what))
    console.print(table)
    if len(problems) > SHOWN:
        console.print(f"and {len(problems) - SHOWN} more")


def _list(console: Console) -> None:
    """Print every known benchmark and the files it needs, each on an unwrapped line."""
    for name, spec in PUBLISHED.items():
        images = " or ".join(str(number) for number in spec.images)
        head = f"{name}: {len(spec.classes)} classes, {images} images, of {spec.homes[0]}/"
        console.print(Text("\n  ".join((head, *spec.tree))), soft_wrap=True)
