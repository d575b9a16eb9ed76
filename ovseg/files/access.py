"""Checks of the paths a person types: `~`, what a command reads, and where it may write.

They all run before anything is loaded or computed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256


def check_text(*texts: str) -> None:
    """Reject text that is not Unicode, which file names and arguments can hold on Linux.

    Such text cannot be written to a manifest, table or page.

    Args:
        texts: strings with a lone surrogate wherever Python read a byte that is not UTF-8.

    Raises:
        OvsegError: a text is not Unicode.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise OvsegError(
                f"{text!r:.80} is not valid UTF-8: rename it, or type it again"
            ) from error


def local(value: str | Path) -> Path:
    """Return a local path with a leading `~` expanded to the home folder, as in a shell.

    A shell expands `--out ~/data` but leaves `--out=~/data` to the program, so every path that a
    person types goes through here.

    Raises:
        OvsegError: the user of the home folder is unknown, or the value cannot be a path.
    """
    text = os.fspath(value)
    check_text(text)
    if not text or "\0" in text:
        raise OvsegError(f"{text!r:.80} is not a path: it is empty or holds a null character")
    if not text.startswith("~"):
        path = Path(text)  # drops the ./ of ./~
        return path.absolute() if str(path).startswith("~") else path
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise OvsegError(
            f"{text}: unknown user, so no home folder; write ./{text} for a file of that name"
        ) from error


def model_name(value: str) -> str:
    """Return a model's name with a leading `~` of its path expanded, as in `ARCH/~/file`."""
    check_text(value)
    prefix, slash, path = value.partition("/~")
    try:
        if value.startswith("~"):
            return str(local(value))
        return f"{prefix}/{local(f'~{path}')}" if slash else value
    except OvsegError:  # not a path, but possibly a name
        return value


def check_folder(folder: Path, what: str) -> None:
    """Reject a path that is not a readable folder.

    Raises:
        OvsegError: naming the option or setting that gave it.
    """
    _check(folder, what, "folder", folder.is_dir, os.R_OK | os.X_OK)


def check_file(file: Path, what: str) -> None:
    """Reject a path that is not a readable file.

    Raises:
        OvsegError: naming the option or setting that gave it.
    """
    _check(file, what, "file", file.is_file, os.R_OK)


def check_there(path: Path, what: str) -> None:
    """Reject a path that is neither a readable file nor a readable folder.

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
        raise OvsegError(f"{what}: {path} is not readable; change its permissions")


FILES_FILE = "ovseg-files.json"
"""File in a replaceable folder: the command that made it, and the sha256 of every other file."""


def list_files(folder: Path, command: str) -> None:
    """Write `FILES_FILE` into a finished folder, so that `check_replaceable` recognizes it.

    Args:
        folder: not yet published; nothing may be written into it afterwards.
        command: the command that made it, such as `ovseg import-checkpoint`.
    """
    files = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / FILES_FILE
    }
    text = json.dumps({"made_by": command, "files": files}, indent=2, ensure_ascii=False)
    (folder / FILES_FILE).write_text(text + "\n", encoding="utf-8")


def check_replaceable(folder: Path, command: str, *, option: str = "--out") -> None:
    """Reject a folder that a command must not replace: call it before anything is computed.

    Args:
        folder: where the command will publish its own folder.
        command: the same text as for `list_files`.
        option: the option that named the folder, for messages.

    Raises:
        OvsegError: the path exists and is neither an empty folder nor one that the same command
            made and nobody changed since, byte for byte.
    """
    if folder.is_symlink():
        raise OvsegError(f"{option} {folder} is a symbolic link: name the folder itself")
    advice = "name a new folder, or move this one away"
    try:
        if _is_new(folder):
            return
        if not folder.is_dir():
            raise OvsegError(f"{option} {folder} exists and is not a folder: {advice}")
        listing = folder / FILES_FILE
        if listing.is_symlink() or not listing.is_file():
            raise OvsegError(f"{option} {folder} exists, but {command} did not make it: {advice}")
        content = json.loads(listing.read_text(encoding="utf-8"))
        files = content["files"]
        if content["made_by"] != command or not isinstance(files, dict):
            raise OvsegError(f"{option} {folder} exists, but {command} did not make it: {advice}")
        present = {path for path in folder.rglob("*") if path != listing}
        ours = {folder / name for name in files}
        ours |= {parent for path in ours for parent in path.parents if folder in parent.parents}
        foreign = sorted(present - ours) or [path for path in sorted(present) if path.is_symlink()]
        changed = [
            name
            for name, sha256 in files.items()
            if (folder / name) in present and file_sha256(folder / name) != sha256
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
    """Reject a folder that holds anything: call it before anything is computed.

    Raises:
        OvsegError: the path exists and is not an empty folder, or it cannot be read.
    """
    try:
        is_new = not folder.is_symlink() and _is_new(folder)
    except OSError as error:
        reason = error.strerror or error
        raise OvsegError(f"{option} {folder} cannot be read: {reason}") from error
    if not is_new:
        raise OvsegError(f"{option} {folder} already exists: name a new folder, or an empty one")


def check_file_target(path: Path, *, inputs: Sequence[Path] = ()) -> None:
    """Reject a file that a command must not write: call it before anything is computed.

    Args:
        path: where the command will publish a file; a regular file there is replaced.
        inputs: the files the command reads.

    Raises:
        OvsegError: its folder is missing, or the path is a link, a folder, a device or an input.
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
        if any(path.exists() and other.exists() and path.samefile(other) for other in inputs):
            raise OvsegError(f"--out {path} is the input itself: name another file")
    except (OSError, ValueError) as error:  # name too long, no permission, null byte
        reason = getattr(error, "strerror", None) or error
        raise OvsegError(f"--out {path} cannot be written: {reason}") from error
