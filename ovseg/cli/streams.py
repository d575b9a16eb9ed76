"""Robust standard output and error: any encoding, closed, full, or without a reader.

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
"""The exit code of a program that a shell ends because the reader of its output is gone."""


def on_any_streams(command: Callable[[], T]) -> Callable[[], T]:
    """Make a console script work whatever its standard streams are.

    Characters missing from the terminal's encoding are written as Python escapes, a closed stream
    discards everything, and one whose reader is gone ends the program silently.

    Raises:
        SystemExit: 141 if nobody reads the output, 2 if it cannot be written.
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
    """Open the null device for closed streams, or the next opened file would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _takes_bytes() -> bool:
    """Whether standard output still works; tested, because the error does not say."""
    try:
        return os.write(1, b"\n") == 1
    except OSError:
        return False


def _throw_away() -> None:
    """Discard what the interpreter would still flush to standard output."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
