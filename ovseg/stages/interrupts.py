"""Ending at once: on Ctrl-C, SIGTERM and SIGHUP a command says one line, records it and is gone.

A command runs in a thread of its own while the main thread waits for signals, so that one acts
also while the command is inside a long call. Whatever has to be told of the end registers a closer
(`closing`) beforehand, over connections that are open by then: nothing is imported at the end.
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
    if name in signal.Signals.__members__  # Windows has no terminal that is closed
}
"""What ends a command, and the words for it. Its exit code is 128 and the signal's number."""
ON_AGAIN = "finished shards are kept, run the same command to go on"
_RECORDING_SECONDS = 2.0  # for all closers together; what they cannot record the next run closes
_LISTENING_SECONDS = 0.1  # the longest that a signal which another thread was given waits

_closers: list[Callable[[], Any]] = []
_ending = threading.Lock()
_advice = ""


def run(command: Callable[[], T]) -> T:
    """Run a command in a thread of its own, while the main thread waits for signals.

    Args:
        command: called once, in a copy of the caller's context.

    Returns:
        What it returned; what it raised is raised here.
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
        while worker.is_alive():  # Python acts on signals only here, and only when this wait ends
            worker.join(_LISTENING_SECONDS)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        atexit.register(_install)  # what is left to do at the exit is interrupted alike
    if errors:
        raise errors[0]
    return results[0]


def add_closer(closer: Callable[[], Any]) -> None:
    """Have something called where the command is interrupted, until `remove_closer`.

    Args:
        closer: called in a thread, at the same time as the others; they have two seconds.
    """
    _closers.append(closer)


def remove_closer(closer: Callable[[], Any]) -> None:
    """Have a closer not called any more, if it would be."""
    with contextlib.suppress(ValueError):
        _closers.remove(closer)


@contextlib.contextmanager
def closing(closer: Callable[[], Any]) -> Iterator[None]:
    """While inside, have something called where the command is interrupted."""
    add_closer(closer)
    try:
        yield
    finally:
        remove_closer(closer)


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """While inside, the line of an interrupt says that the same command goes on."""
    global _advice
    before, _advice = _advice, f"; {ON_AGAIN}"
    try:
        yield
    finally:
        _advice = before


@contextlib.contextmanager
def sheltered() -> Iterator[None]:
    """Start processes inside that no signal of the terminal reaches; they call `own_session`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def own_session() -> None:
    """Leave the terminal's process group, in a process that was started `sheltered`."""
    if not hasattr(os, "setsid"):
        return
    with contextlib.suppress(OSError):  # it leads one already
        os.setsid()
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)  # forgets the one that came before this session did
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)


def end(code: int, line: str) -> None:
    """End this process: one line, the closers, its children, the exit code.

    Returns only where the process is being ended already.

    Args:
        code: the exit code.
        line: for standard error, which then is silent, as is standard output.
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
    """Take the signals that nobody ignores (`nohup` does, a shell's `&` does), and give the rest.

    Returns:
        The handlers before.
    """
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    before = {signum: was for signum, was in before.items() if was is not signal.SIG_IGN}
    for signum in before:
        signal.signal(signum, _on_signal)
    # what multiprocessing leaves behind is tidied up by its tracker, without a word of it
    quiet = "ignore:resource_tracker:UserWarning"
    if quiet not in sys.warnoptions:
        sys.warnoptions.append(quiet)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)
    return before


def _forget() -> None:
    """In a forked child: signals do what they do by default, and closers are the parent's."""
    _closers.clear()
    for signum in SIGNALS:
        if signal.getsignal(signum) is _on_signal:
            signal.signal(signum, signal.SIG_DFL)


def _on_signal(signum: int, _: FrameType | None) -> None:
    if not _ending.locked():
        end(128 + signum, f"ovseg: {SIGNALS[signal.Signals(signum)]}{_advice}")
    elif signum == signal.SIGINT:  # a second Ctrl-C waits for nothing
        _leave(128 + signum)


def _call(closer: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):  # the next run closes what this one could not
        closer()


def _say(line: str) -> None:
    """Write the line below whatever a terminal shows, and silence the rest of this process."""
    with contextlib.suppress(OSError):
        before = "\x1b[?25h\n" if os.isatty(2) else ""  # bars hide the cursor
        os.write(2, f"{before}{line}\n".encode())
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)


def _leave(code: int) -> None:
    for pid in _descendants(os.getpid()) - _trackers():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):  # none is left behind as a zombie, where that is quick
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
    os._exit(code)


def _trackers() -> set[int]:
    """Multiprocessing's process that tidies up semaphores; it ends by itself, after this one."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    pid = getattr(getattr(module, "_resource_tracker", None), "_pid", None)
    return set() if pid is None else {pid}


def _descendants(pid: int) -> set[int]:
    """The processes below one, in sessions of their own too; empty where there is no /proc."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found: set[int] = set()
    pending = [pid]
    while pending:
        below = set(children.get(pending.pop(), [])) - found
        found |= below
        pending.extend(below)
    return found
