"""Paths of this machine as a person writes them: with `~`, as a shell has it."""

from __future__ import annotations

import os
from pathlib import Path

from ovseg.errors import OvsegError


def check_text(*texts: str) -> None:
    """Refuse what is not Unicode, as file names and words of a command line may be on Linux.

    Such text could be written into no manifest, table or page.

    Args:
        texts: each with half of a surrogate pair where Python read bytes that are not UTF-8.

    Raises:
        OvsegError: for the first of them that is not Unicode.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise OvsegError(
                f"{text!r:.80} is not text in UTF-8: rename it, or type it again"
            ) from error


def local(value: str | Path) -> Path:
    """A path of this machine, in which a leading `~` is a home folder, as in a shell.

    A shell expands `--out ~/data` and leaves `--out=~/data` to the program, so each path that a
    person writes goes through here.

    Raises:
        OvsegError: for the home of a user there is not, or what cannot be a path.
    """
    text = os.fspath(value)
    check_text(text)
    if not text or "\0" in text:
        raise OvsegError(f"{text!r:.80} is not a path: it is empty or holds a null character")
    if not text.startswith("~"):
        path = Path(text)  # which drops the ./ of ./~
        return path.absolute() if str(path).startswith("~") else path
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise OvsegError(
            f"{text}: there is no such user's home folder; write ./{text} for a file of that name"
        ) from error


def model_name(value: str) -> str:
    """A model's name, in which a leading `~` of a path is a home folder, as of `ARCH/~/file`."""
    check_text(value)
    prefix, slash, path = value.partition("/~")
    try:
        if value.startswith("~"):
            return str(local(value))
        return f"{prefix}/{local(f'~{path}')}" if slash else value
    except OvsegError:  # no path, but may be a name
        return value
