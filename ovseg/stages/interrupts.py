"""Immediate exit: on Ctrl-C, SIGTERM and SIGHUP a command prints one line, records it and ends.

A command runs in its own thread while the main thread waits for signals, so that they act even
during a long call. Code that must record the end registers a closer (`closing`) beforehand, over
connections that are already open: nothing is imported at the end.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

SIGNALS = {
    signal.Signals[name]: words
    for name, words in (
        ("SIGINT", "interrupted"),
        ("SIGTERM", "ended by SIGTERM"),
        ("SIGHUP", "ended, as its terminal was closed"),
    )
    if name in signal.Signals.__members__  # Windows has no SIGHUP
}
"""Signals that end a command, and the words for each. The exit code is 128 + the signal number."""
ON_AGAIN = "finished shards are kept, run the same command to go on"
_RECORDING_SECONDS = 2.0  # for all closers together; the next run closes the rest
_LISTENING_SECONDS = 0.1  # longest delay of a signal delivered to another thread

_closers: list[Callable[[], Any]] = []
_ending = threading.Lock()
_advice = ""


def run(command: Callable[[], T]) -> T:
    """Run a command in its own thread while the main thread waits for signals.

    Args:
        command: called once, in a copy of the caller's context.

    Returns:
        The command's result; its exceptions are raised here.
    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    context = contextvars.copy_context()
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(context.run(command))
        except BaseException as error:
            errors.append(error)

    before = _install()
    worker = threading.Thread(target=body, name="command", daemon=True)
    try:
        worker.start()
        while worker.is_alive():  # Python handles signals only here, when this wait ends
            worker.join(_LISTENING_SECONDS)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        atexit.register(_install)  # so that exit handlers can be interrupted too
    if errors:
        raise errors[0]
    return results[0]


def add_closer(closer: Callable[[], Any]) -> None:
    """Register a function to call if the command is interrupted, until `remove_closer`.

    Args:
        closer: called in a thread, in parallel with the others; they have two seconds.
    """
    _closers.append(closer)


def remove_closer(closer: Callable[[], Any]) -> None:
    """Unregister a closer, if it is registered."""
    with contextlib.suppress(ValueError):
        _closers.remove(closer)


@contextlib.contextmanager
def closing(closer: Callable[[], Any]) -> Iterator[None]:
    """Register a closer for the duration of the block."""
    add_closer(closer)
    try:
        yield
    finally:
        remove_closer(closer)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """Add to the interrupt's line that the same command resumes, for the duration of the block."""
    global _advice
    before, _advice = _advice, f"; {ON_AGAIN}"
    try:
        yield
    finally:
        _advice = before


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Block signals while starting processes, which then call `own_session`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def own_session() -> None:
    """Leave the terminal's process group; called in a process that was started `sheltered`."""
    if not hasattr(os, "setsid"):
        return
    with contextlib.suppress(OSError):  # already a group leader
        os.setsid()
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # discards a signal pending from before this session
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


def end(code: int, line: str) -> None:
    """End this process: print one line, run the closers, kill the children, exit.

    Returns only if the process is already ending.

    Args:
        code: the exit code.
        line: written to standard error; both output streams are silent afterwards.
    """
    if not _ending.acquire(blocking=False):
        return
    _say(line)
    threads = [threading.Thread(target=_call, args=(each,), daemon=True) for each in list(_closers)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + _RECORDING_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    _leave(code)


def _install() -> dict[signal.Signals, Any]:
    """Install handlers for the signals that are not ignored, as `nohup` and a shell's `&` do.

    Returns:
        The previous handlers of those signals.
    """
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    before = {signum: was for signum, was in before.items() if was is not signal.SIG_IGN}
    for signum in before:
        signal.signal(signum, _on_signal)
    # multiprocessing's tracker cleans up after it; silence its warnings
    quiet = "ignore:resource_tracker:UserWarning"
    if quiet not in sys.warnoptions:
        sys.warnoptions.append(quiet)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)
    return before


def _forget() -> None:
    """Restore default signal handling in a forked child; closers belong to the parent."""
    _closers.clear()
    for signum in SIGNALS:
        if signal.getsignal(signum) is _on_signal:
            signal.signal(signum, signal.SIG_DFL)


def _on_signal(signum: int, _: FrameType | None) -> None:
    if not _ending.locked():
        end(128 + signum, f"ovseg: {SIGNALS[signal.Signals(signum)]}{_advice}")
    elif signum == signal.SIGINT:  # a second Ctrl-C exits at once
        _leave(128 + signum)


def _call(closer: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):  # the next run closes it instead
        closer()


def _say(line: str) -> None:
    """Write the line on a new line of the terminal, and silence the rest of this process."""
    with contextlib.suppress(OSError):
        before = "\x1b[?25h\n" if os.isatty(2) else ""  # progress bars hide the cursor
        os.write(2, f"{before}{line}\n".encode())
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


def _leave(code: int) -> None:
    children: set[int] = set()
    for _ in range(2):  # stopped, they start no others; the second look finds those forked before
        children |= _descendants(os.getpid()) - _trackers()
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
    for pid in children:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # reap children for a moment, to leave no zombies
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
    os._exit(code)


def _trackers() -> set[int]:
    """Return the pid of multiprocessing's semaphore tracker, which ends on its own later."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    pid = getattr(getattr(module, "_resource_tracker", None), "_pid", None)
    return set() if pid is None else {pid}


def _descendants(pid: int) -> set[int]:
    """Return all descendants of a process, in other sessions too; empty without /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    descendants: set[int] = set()
    pending = [pid]
    while pending:
        below = set(children.get(pending.pop(), [])) - descendants
        descendants |= below
        pending.extend(below)
    return descendants
