"""Files with the same bytes, found without reading them all.

Files of different sizes differ, and so do files of one size whose beginnings or ends differ; only
what is left is hashed. So a hundred thousand photographs are compared in seconds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path

from ovseg.storage import file_sha256

_PEEK = 4096


def file_size(path: Path) -> int | None:
    """Bytes of a file; None where there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name may hold what no file system takes
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def first_of_equal_files(paths: Mapping[int, Path]) -> dict[int, int]:
    """Find duplicates.

    Args:
        paths: a file for each id; missing, unreadable and empty files equal no other.

    Returns:
        For each id whose file repeats that of a lower id, the lowest such id.
    """
    groups = _split(
        [sorted(paths)],
        lambda key: file_size(paths[key]) or None,
        lambda key: _ends(paths[key]),
        lambda key: _sha256(paths[key]),
    )
    return {key: group[0] for group in groups for key in group[1:]}


def _split(
    groups: Iterable[list[int]], *features: Callable[[int], Hashable | None]
) -> list[list[int]]:
    """Split groups by one feature after another; who is alone or has none is left out."""
    result = list(groups)
    for feature in features:
        parts: list[list[int]] = []
        for group in result:
            by_value: dict[Hashable, list[int]] = {}
            for key in group:
                if (value := feature(key)) is not None:
                    by_value.setdefault(value, []).append(key)
            parts += [part for part in by_value.values() if len(part) > 1]
        result = parts
    return result


def _ends(path: Path) -> tuple[bytes, bytes] | None:
    try:
        with path.open("rb") as stream:
            head = stream.read(_PEEK)
            stream.seek(-min(_PEEK, path.stat().st_size), os.SEEK_END)
            return head, stream.read(_PEEK)
    except OSError:
        return None


def _sha256(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None
