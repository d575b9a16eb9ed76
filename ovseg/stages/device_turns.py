"""Shards that take turns at a device, and give it back before they are written.

    with device_turn("cuda"):
        record = run_shard(...)      # calls device_is_free() before it writes

One shard at a time runs a network on a device: a second one would only compete for memory. The next
shard may begin while the last masks are encoded and the shard is written, which needs little of it.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
_give_back: ContextVar[Callable[[], None] | None] = ContextVar("give_back", default=None)


@contextmanager
def device_turn(device: str | None) -> Iterator[None]:
    """Have a device alone for the block, or until `device_is_free` is called in it.

    Args:
        device: its name; None needs no turn.
    """
    if device is None:
        yield
        return
    held = [_locks[device]]
    held[0].acquire()

    def give_back() -> None:
        if held:
            held.pop().release()

    before = _give_back.set(give_back)
    try:
        yield
    finally:
        _give_back.reset(before)
        give_back()


def device_is_free() -> None:
    """Let the next shard have the device; without a turn, nothing happens."""
    if (give_back := _give_back.get()) is not None:
        give_back()
