"""How stages compute on a CPU: one torch thread each, and memory that is kept when it is freed.

One thread, because the bytes of a sum depend on how it is split. `OVSEG_TORCH_THREADS=N` overrides
it. N is then part of the results' names, because they may differ.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ovseg.errors import OvsegError

T = TypeVar("T")
VARIABLE = "OVSEG_TORCH_THREADS"
_READ_AT_IMPORT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that torch's libraries read once, when they are loaded."""


def torch_threads() -> int:
    """Return the number of threads that stages compute with.

    Raises:
        OvsegError: the variable is not a whole number from 1 to 1024.
    """
    text = os.environ.get(VARIABLE, "1")
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1024):
        raise OvsegError(f"{VARIABLE}={text!r} must be a number of threads from 1 to 1024")
    return int(text)


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""


@functools.cache
def keep_memory() -> None:
    """Have glibc keep up to 1 GiB of freed memory for the next tensors, from now on.

    By default it returns large blocks to the system at once, and the system fills each page of the
    next one with zeros: a tenth of the time of a training step, a third of that of cutting regions.
    Without effect elsewhere.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        libc.mallopt(parameter, 2**30)


_lock = threading.Lock()
_inside = 0
_before: int | None = None
"""Torch's threads before the outermost `fixed_threads`; None if torch was not imported."""
_variables: dict[str, str | None] = {}


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Have torch compute with `torch_threads()` threads, in this thread and new ones.

    Freed memory is kept from the first call on, see `keep_memory`.

    Several threads may enter at once, such as the shards of a task runner; the last to leave
    restores the previous setting. This does not import torch: if it is imported inside, it starts
    with that number.
    """
    _enter(torch_threads())
    try:
        yield
    finally:
        _leave()


def idle_cores() -> int:
    """Return the number of cores that this process computes no stage on."""
    return max(0, cores() - _inside)


def with_fixed_threads(call: Callable[..., T], /, *args: Any) -> T:
    """Call a function within `fixed_threads`, from a thread that was started by hand."""
    with fixed_threads():
        return call(*args)


def _enter(threads: int) -> None:
    global _inside, _before
    keep_memory()
    with _lock:
        torch = _torch()
        if _inside == 0:
            _before = None if torch is None else torch.get_num_threads()
            for name in _READ_AT_IMPORT:
                _variables[name] = os.environ.get(name)
                os.environ[name] = str(threads)
        _inside += 1
        if torch is not None:
            torch.set_num_threads(threads)  # the setting is per calling thread


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
    """Return torch if it is fully imported, not still being imported by another thread."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "set_num_threads") else None


def _default() -> int:
    """Return the number of threads torch would have started with, if imported outside."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= 1024:
        return int(text)
    return cores()
