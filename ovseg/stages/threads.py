"""How many threads torch computes with: one, as the bytes of a sum depend on how it is split.

`OVSEG_TORCH_THREADS=N` overrides it. Results are then named after N, too, because they may differ.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ovseg.errors import OvsegError

VARIABLE = "OVSEG_TORCH_THREADS"
_READ_AT_IMPORT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What torch's own libraries look at when they are loaded, and never again."""


def torch_threads() -> int:
    """The number of threads that stages compute with.

    Raises:
        OvsegError: the variable is not a whole number from 1 to 1024.
    """
    text = os.environ.get(VARIABLE, "1")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1024):
        raise OvsegError(f"{VARIABLE}={text!r} must be a number of threads from 1 to 1024")
    return int(text)


_lock = threading.Lock()
_inside = 0
_before: int | None = None
"""Threads of torch before the outermost `fixed_threads`; None while torch is not imported."""
_variables: dict[str, str | None] = {}


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Within it torch computes with `torch_threads()` threads, in this thread and new ones.

    Several threads may be in it at once, as the shards of a task runner. The setting of before
    comes back when the last one leaves. torch is not imported for it: one that is imported within
    starts with that number.
    """
    _enter(torch_threads())
    try:
        yield
    finally:
        _leave()


def _enter(threads: int) -> None:
    global _inside, _before
    with _lock:
        torch = _torch()
        if _inside == 0:
            _before = None if torch is None else torch.get_num_threads()
            for name in _READ_AT_IMPORT:
                _variables[name] = os.environ.get(name)
                os.environ[name] = str(threads)
        _inside += 1
        if torch is not None:
            torch.set_num_threads(threads)  # each thread of the caller's has a setting of its own


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside:
            return
        for name, value in _variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if (torch := _torch()) is not None:
            torch.set_num_threads(_default() if _before is None else _before)


def _torch() -> Any:
    """Torch if it is imported, and not just being imported by another thread."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "set_num_threads") else None


def _default() -> int:
    """The threads that torch would have started with, had it been imported outside."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1024:
        return int(text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
