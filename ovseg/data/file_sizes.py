"""Sizes of many image files without reading them, to detect a changed data set."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ovseg.files.archives import index, split_name
from ovseg.files.locations import Location, entries


def file_sizes(root: Location, names: Iterable[str]) -> dict[str, int]:
    """Return the sizes of files in bytes.

    A remote folder is listed once instead of one request per file; members of a tar are looked up
    in its index.

    Args:
        root: the folder the names are relative to.
        names: names of files and of members of tars.

    Returns:
        Name to size, without names that are not files.
    """
    folders: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    for name in dict.fromkeys(names):
        try:
            size = _size(root, name, folders)
        except (OSError, ValueError):  # names may be invalid for the file system
            continue
        if size is not None:
            sizes[name] = size
    return sizes


def _size(root: Location, name: str, folders: dict[str, dict[str, int]]) -> int | None:
    if (parts := split_name(name)) is not None:
        archive, member = parts
        span = index(root / archive).get(member)
        return None if span is None else span[1]
    if isinstance(root, Path):
        status = (root / name).stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else None
    path = PurePosixPath(name)
    folder = path.parent.as_posix()
    if folder not in folders:
        folders[folder] = {}  # a missing folder is requested only once, too
        place = root if folder == "." else root / folder
        folders[folder] = {entry.name: entry.size for entry in entries(place)}
    return folders[folder].get(path.name)
