"""Sizes of many image files without reading them: what tells a changed data set from an old one."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ovseg.files.archives import index, split_name
from ovseg.files.locations import Location, entries


def file_sizes(root: Location, names: Iterable[str]) -> dict[str, int]:
    """Bytes of files.

    Behind a URL a folder is listed once rather than asked for each file; members of a tar are
    looked up in its index.

    Args:
        root: the folder the names are relative to.
        names: of files, members of tars among them.

    Returns:
        Of each name its size; what is no file is left out.
    """
    folders: dict[str, dict[str, int]] = {}
    sizes: dict[str, int] = {}
    for name in dict.fromkeys(names):
        try:
            size = _size(root, name, folders)
        except (OSError, ValueError):  # a name may hold what no file system takes
            continue
        if size is not None:
            sizes[name] = size
    return sizes


def _size(root: Location, name: str, folders: dict[str, dict[str, int]]) -> int | None:
    if (parts := split_name(name)) is not None:
        archive, member = parts
        found = index(root / archive).get(member)
        return None if found is None else found[1]
    if isinstance(root, Path):
        of_file = (root / name).stat()
        return of_file.st_size if stat.S_ISREG(of_file.st_mode) else None
    path = PurePosixPath(name)
    folder = path.parent.as_posix()
    if folder not in folders:
        folders[folder] = {}  # also of one that is not there: it is asked for once
        place = root if folder == "." else root / folder
        folders[folder] = {entry.name: entry.size for entry in entries(place)}
    return folders[folder].get(path.name)
