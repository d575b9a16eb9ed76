"""Paths that a person gives: `~`, what a command reads, and where it may write.

All of it is looked at before anything is loaded or computed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256


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


def check_folder(folder: Path, what: str) -> None:
    """Refuse what is not a folder that can be read.

    Raises:
        OvsegError: naming the option or setting that gave it.
    """
    _check(folder, what, "folder", folder.is_dir, os.R_OK | os.X_OK)


def check_file(file: Path, what: str) -> None:
    """Refuse what is not a file that can be read.

    Raises:
        OvsegError: naming the option or setting that gave it.
    """
    _check(file, what, "file", file.is_file, os.R_OK)


def check_there(path: Path, what: str) -> None:
    """Refuse a path without a file or folder that can be read.

    Raises:
        OvsegError: naming the option or setting that gave it.
    """
    _check(path, what, "file or folder", lambda: path.is_file() or path.is_dir(), os.R_OK)


def _check(path: Path, what: str, kind: str, is_kind: Callable[[], bool], mode: int) -> None:
    try:
        path.stat()
    except OSError as error:
        raise OvsegError(f"{what}: {path} cannot be read ({error.strerror})") from error
    if not is_kind():
        raise OvsegError(f"{what}: {path} is not a {kind}")
    if not os.access(path, mode):
        raise OvsegError(f"{what}: {path} may not be read; change its permissions")


FILES_FILE = "ovseg-files.json"
"""In a folder that a command may replace: the command, and the sha256 of every other file."""


def list_files(folder: Path, command: str) -> None:
    """Write `FILES_FILE` into a finished folder, so that `check_replaceable` knows it again.

    Args:
        folder: not yet published; nothing may be written into it afterwards.
        command: what made it, such as `ovseg import-checkpoint`.
    """
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILES_FILE
    }
    text = json.dumps({"made_by": command, "files": files}, indent=2, ensure_ascii=False)
    (folder / FILES_FILE).write_text(text + "\n", encoding="utf-8")


def check_replaceable(folder: Path, command: str, *, option: str = "--out") -> None:
    """Refuse a folder that a command must not replace: call it before anything is computed.

    Args:
        folder: where the command is going to publish a folder of its own.
        command: as it was given to `list_files`.
        option: that named the folder, for messages.

    Raises:
        OvsegError: something is there that is not an empty folder, nor one that the same command
            made and that holds, byte for byte, what it wrote and nothing else.
    """
    if folder.is_symlink():
        raise OvsegError(f"{option} {folder} is a symbolic link: name the folder itself")
    advice = "name a new folder, or move this one away"
    try:
        if _is_new(folder):
            return
        if not folder.is_dir():
            raise OvsegError(f"{option} {folder} is there already, not as a folder: {advice}")
        listing = folder / FILES_FILE
        if listing.is_symlink() or not listing.is_file():
            raise OvsegError(f"{option} {folder} is there already, not made by {command}: {advice}")
        content = json.loads(listing.read_text(encoding="utf-8"))
        files = content["files"]
        if content["made_by"] != command or not isinstance(files, dict):
            raise OvsegError(f"{option} {folder} is there already, not made by {command}: {advice}")
        there = {path for path in folder.rglob("*") if path != listing}
        ours = {folder / name for name in files}
        ours |= {parent for path in ours for parent in path.parents if folder in parent.parents}
        foreign = sorted(there - ours) or [path for path in sorted(there) if path.is_symlink()]
        changed = [
            name
            for name, sha256 in files.items()
            if (folder / name) in there and file_sha256(folder / name) != sha256
        ]
    except OSError as error:
        reason = error.strerror or error
        raise OvsegError(f"{option} {folder} cannot be read ({reason}): {advice}") from error
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise OvsegError(f"{option} {folder}: {FILES_FILE} is damaged; {advice}") from error
    if foreign:
        name = foreign[0].relative_to(folder)
        raise OvsegError(f"{option} {folder} holds {name}, which {command} did not write: {advice}")
    if changed:
        raise OvsegError(
            f"{option} {folder} holds {changed[0]}, changed since {command} wrote it: {advice}"
        )


def _is_new(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_new(folder: Path, *, option: str = "--out") -> None:
    """Refuse a folder that holds anything: call it before anything is computed.

    Raises:
        OvsegError: something is there that is not an empty folder, or it cannot be read.
    """
    try:
        is_new = not folder.is_symlink() and _is_new(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OvsegError(f"{option} {folder} cannot be read: {reason}") from error
    if not is_new:
        raise OvsegError(f"{option} {folder} is there already: name a new folder, or an empty one")


def check_file_target(path: Path, *, inputs: Sequence[Path] = ()) -> None:
    """Refuse a file that a command must not write: call it before anything is computed.

    Args:
        path: where the command is going to publish a file; a regular file there is replaced.
        inputs: what the command reads.

    Raises:
        OvsegError: its folder is missing, or what is there is a link, a folder, a device or an
            input.
    """
    try:
        if path.is_symlink():
            raise OvsegError(f"--out {path} is a symbolic link: name the file itself")
        if not path.resolve().parent.is_dir():
            raise OvsegError(f"--out {path}: the folder {path.resolve().parent} does not exist")
        if path.is_dir():
            raise OvsegError(f"--out {path} is a folder: name a file")
        if path.exists() and not path.is_file():
            raise OvsegError(f"--out {path} is a device or a pipe: name a file")
        if any(path.exists() and given.exists() and path.samefile(given) for given in inputs):
            raise OvsegError(f"--out {path} is the input itself: name another file")
    except (OSError, ValueError) as error:  # too long a name, no permission, a null byte
        reason = getattr(error, "strerror", None) or error
        raise OvsegError(f"--out {path} cannot be written: {reason}") from error
