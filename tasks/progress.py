"""Progress of the stages of a run: bars on a terminal, occasional lines elsewhere.

Prefect's UI shows the same as an artifact of the flow run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ovseg.files.terminal import Terminal
from tasks.prefect_page import progress_artifact

console = Terminal(stderr=True)
_lock = threading.Lock()
_bars: Progress | None = None
_QUIET_SECONDS = 15.0  # between lines if there is no terminal for bars


@contextmanager
def bars() -> Iterator[None]:
    """Show bars for the stages run inside; nested uses join the outermost."""
    global _bars
    if _bars is not None or not console.is_terminal:
        yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as _bars:
        try:
            yield
        finally:
            _bars = None


def found(name: str) -> None:
    """Print that a step was already done, so that a run of only such steps is not silent."""
    console.print(f"{name}: found, nothing to compute", highlight=False)


@contextmanager
def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a stage's progress inside a flow, on the console and in Prefect's UI.

    Args:
        name: name of the stage.
        total: number of items (images, steps).

    Yields:
        The function that advances it by some items, which any thread may call.
    """
    with _console_bar(name, total) as console_advance, progress_artifact(name, total) as advance:

        def both(step: int) -> None:
            console_advance(step)
            advance(step)

        yield both


@contextmanager
def _console_bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
    if _bars is not None:
        shown = _bars
        task = shown.add_task(name, total=total)
        yield lambda advance: shown.advance(task, advance)
        shown.update(task, completed=total)
        return
    state = {"done": 0, "told": time.monotonic()}
    began = time.monotonic()

    def advance(step: int) -> None:
        with _lock:
            state["done"] += step
            if time.monotonic() - state["told"] > _QUIET_SECONDS:
                state["told"] = time.monotonic()
                console.print(f"{name}: {state['done']} of {total}", highlight=False)

    yield advance
    console.print(f"{name}: done in {time.monotonic() - began:.1f} s", highlight=False)
