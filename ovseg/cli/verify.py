"""`ovseg verify`: hash every result, and say which are not what was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ovseg.errors import OvsegError
from ovseg.files.access import check_there
from ovseg.files.digests import file_sha256
from ovseg.files.escaping import say
from ovseg.stages.manifest import Manifest, ShardRecord, inside
from ovseg.stages.stamps import read_stamps, write_stamps

_DIGEST = re.compile(r"[0-9a-f]{16}")
"""Name of a stage's folder."""


def verify_command(root: Path) -> None:
    """Run `ovseg verify`.

    Runs trust results whose size and time of last change are as they were; this reads all of them.
    A damaged one is computed again by the next run that needs it.

    Args:
        root: folder of the results.

    Raises:
        OvsegError: there are no results, or some are damaged.
    """
    check_there(root, "--root")
    results = size = 0
    damaged: list[Path] = []
    for path, count, problem in check_payloads(root):
        results, size = results + 1, size + count
        if problem is not None:
            damaged.append(path)
            say(problem if str(path) in problem else f"{path} {problem}")
    if not results:
        raise OvsegError(f"{root} holds no finished results: set --root to the folder of a run")
    if damaged:
        raise OvsegError(
            f"{len(damaged)} of {results} results are damaged: run the command that made them"
            " again, which computes these anew"
        )
    say(f"{results} results of {size / 1e6:,.1f} MB are as they were written")


def check_payloads(root: Path) -> Iterator[tuple[Path, int, str | None]]:
    """Hash every payload of every finished stage under a root.

    A damaged one loses its stamp, so that the next run computes it again.

    Yields:
        The path and size in bytes of each payload or manifest, and what is wrong with it, if
        anything.
    """
    for path in sorted(root.rglob("manifest.json")):
        folder = path.parent
        if not _DIGEST.fullmatch(folder.name):
            continue  # a copy, as MLflow keeps it, without the payloads
        try:
            manifest = Manifest.read(folder)
        except OvsegError as error:
            yield path, 0, str(error)
            continue
        kept = read_stamps(folder)
        for record in manifest.shards:
            problem = _problem(folder, record)
            if problem is not None and kept.pop(record.path, None) is not None:
                write_stamps(folder, kept)
            yield folder / record.path, record.bytes, problem


def _problem(folder: Path, record: ShardRecord) -> str | None:
    """Return what is wrong with a payload."""
    try:
        payload = inside(folder, record.path)
        same = payload.exists() and file_sha256(payload) == record.sha256
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except OvsegError as error:
        return str(error)
    if same:
        return None
    return "is not what was written" if payload.exists() else "is missing"
