"""Where a command may write: what its `--out` names is looked at before anything is computed.

    check_replaceable(out, "ovseg study")        # a folder: new, empty, or made by the same command
    list_files(temporary, "ovseg study")         # so that the next call knows it again
    publish(temporary, out)

A folder is replaced only where its own listing proves that a command of this project made it and
that nobody changed it since; a file only where it is a regular file and not what the command reads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ovseg.digests import file_sha256
from ovseg.errors import OvsegError

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


def check_file_target(path: Path, *, inputs: Sequence[Path] = (), option: str = "--out") -> None:
    """Refuse a file that a command must not write: call it before anything is computed.

    Args:
        path: where the command is going to publish a file; a regular file there is replaced.
        inputs: what the command reads.
        option: that named the file, for messages.

    Raises:
        OvsegError: its folder is missing, or what is there is a link, a folder, a device or an
            input.
    """
    try:
        if path.is_symlink():
            raise OvsegError(f"{option} {path} is a symbolic link: name the file itself")
        if not path.resolve().parent.is_dir():
            raise OvsegError(f"{option} {path}: the folder {path.resolve().parent} does not exist")
        if path.is_dir():
            raise OvsegError(f"{option} {path} is a folder: name a file")
        if path.exists() and not path.is_file():
            raise OvsegError(f"{option} {path} is a device or a pipe: name a file")
        if any(path.exists() and given.exists() and path.samefile(given) for given in inputs):
            raise OvsegError(f"{option} {path} is the input itself: name another file")
    except (OSError, ValueError) as error:  # too long a name, no permission, a null byte
        reason = getattr(error, "strerror", None) or error
        raise OvsegError(f"{option} {path} cannot be written: {reason}") from error
