"""Where a shard's time goes: the seconds that its thread waits for each part of the work.

    with waiting("decode"):
        image = decoded.result()

A shard that decodes and encodes in the background waits only for the slowest part. The seconds
are facts of a run: they go to `run.json` and the log, never into a record or a manifest.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

IN_WORDS = {
    "crop": "cutting out regions",
    "decode": "decoding",
    "device": "the device",
    "encode": "encoding",
    "parse": "parsing",
    "read": "reading",
    "resize": "resizing",
    "turn": "other shards",
    "write": "writing",
}
"""What is waited for, by part. On CUDA the device's part ends when results are on the host."""


class _Stopwatch:
    """Seconds by part; a part within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.part: str | None = None
        self._since = 0.0

    def switch(self, part: str | None) -> str | None:
        """Begin to wait for a part, or for none, and return the one before it."""
        now, before = time.perf_counter(), self.part
        if before is not None:
            self.seconds[before] = self.seconds.get(before, 0.0) + now - self._since
        self.part, self._since = part, now
        return before


_running: ContextVar[_Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Collect the seconds by part that this thread waits inside; other threads are not timed."""
    watch = _Stopwatch()
    token = _running.set(watch)
    try:
        yield watch.seconds
    finally:
        _running.reset(token)


@contextmanager
def waiting(part: str) -> Iterator[None]:
    """Count the time inside as waiting for a part, a key of `IN_WORDS`."""
    if (watch := _running.get()) is None:
        yield
        return
    before = watch.switch(part)
    try:
        yield
    finally:
        watch.switch(before)


def waiting_for(items: Iterable[T], part: str) -> Iterator[T]:
    """Yield items, and count the time until each is there as waiting for a part."""
    iterator = iter(items)
    while True:
        with waiting(part):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


def total(waits: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up the seconds of several shards by part."""
    seconds: dict[str, float] = {}
    for of_shard in waits:
        for part, value in of_shard.items():
            seconds[part] = seconds.get(part, 0.0) + value
    return seconds


def in_words(waits: Mapping[str, float], seconds: float) -> str:
    """Return the shares of waiting, as in `waited 71 % on the device, 18 % on decoding`.

    Args:
        waits: seconds by part.
        seconds: of all shards, waiting and not.

    Returns:
        The parts of at least 1 %, the largest first; empty if there are none.
    """
    shares = {part: round(100 * value / seconds) for part, value in waits.items() if seconds > 0}
    largest = sorted(shares, key=lambda part: (-waits[part], part))
    words = [f"{shares[part]} % on {IN_WORDS[part]}" for part in largest if shares[part]]
    return f"waited {', '.join(words)}" if words else ""
