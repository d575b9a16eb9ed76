"""Standard output and error as they may be: of any encoding, closed, full, or read by nobody.

@on_any_streams
def main() -> None: ...
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from ovseg.files.escaping import say

T = TypeVar("T")
NOBODY_READS = 141
"""The exit code of a program that a shell ends as the reader of its output is gone."""


def on_any_streams(command: Callable[[], T]) -> Callable[[], T]:
    """Make a console script work whatever its standard streams are.

    Characters that the terminal's encoding does not have are written out as Python writes them, a
    closed stream takes everything and shows nothing, and one whose reader is gone ends the program
    silently.

    Raises:
        SystemExit: 141 where nobody reads the output, 2 where it cannot be written.
    """

    @functools.wraps(command)
    def wrapper() -> T:
        _open_closed()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        try:
            try:
                return command()
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            _throw_away()
            raise SystemExit(NOBODY_READS) from None
        except OSError as error:
            if _takes_bytes():
                raise
            _throw_away()
            say(f"ovseg: standard output cannot be written ({error.strerror})", error=True)
            raise SystemExit(2) from None

    return wrapper


def _open_closed() -> None:
    """Open the null device in place of closed streams: else the next file opened takes theirs."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _takes_bytes() -> bool:
    """Whether it was not standard output that failed; tried, as the error does not say."""
    try:
        return os.write(1, b"\n") == 1
    except OSError:
        return False


def _throw_away() -> None:
    """Have what standard output still holds go nowhere when the interpreter flushes it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
