"""Stamps: sizes and times of last change of payloads that were found to be as recorded.

A payload whose stamp still fits is trusted, so that a run that finds everything done does not read
every byte again; one whose time differs is hashed, and has a new stamp if it is the same. Whoever
wants certainty hashes everything (`ovseg verify`). Stamps are in `run.json`, next to the manifest:
they belong to this copy of the files. Without any, all is hashed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.files.json_files import read_json
from ovseg.files.publish import publish_text
from ovseg.stages.manifest import ShardRecord, inside

RUN = "run.json"
KEY = "payloads"
Stamp = list[list[Any]]
"""Name, size in bytes and time of last change in nanoseconds of each file of a payload."""


def stamp(payload: Path) -> Stamp:
    """Return the stamp of a file, or of a folder's files in order of their names.

    Raises:
        OSError: it is missing.
    """
    files = sorted(p for p in payload.rglob("*") if p.is_file()) if payload.is_dir() else [payload]
    stats = [(file.relative_to(payload).as_posix(), file.stat()) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def stamps_of(folder: Path, records: Sequence[ShardRecord]) -> dict[str, Stamp]:
    """Return the stamps of payloads by their paths in a stage's folder."""
    return {record.path: stamp(inside(folder, record.path)) for record in records}


def read_run(folder: Path) -> dict[str, Any]:
    """Return what `run.json` holds; nothing if it is missing or not what was written."""
    with contextlib.suppress(OSError, ValueError, OvsegError):
        run = read_json(folder / RUN, advice="delete it", lenient=True)
        if isinstance(run, dict):
            return run
    return {}


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Publish `run.json`."""
    publish_text(json.dumps(run, indent=1, sort_keys=True) + "\n", folder / RUN)


def read_stamps(folder: Path) -> dict[str, Any]:
    """Return the stamps that `run.json` holds, by path."""
    known = read_run(folder).get(KEY)
    return known if isinstance(known, dict) else {}


def write_stamps(folder: Path, stamps: Mapping[str, Stamp]) -> None:
    """Put other stamps into `run.json`; in a folder that cannot be written, do nothing."""
    with contextlib.suppress(OvsegError):
        write_run(folder, {**read_run(folder), KEY: dict(stamps)})


def is_whole(folder: Path, record: ShardRecord, known: Mapping[str, Any]) -> bool:
    """Whether a payload is as recorded: its stamp is known, or else its sha256 fits.

    Raises:
        OSError: it is missing or cannot be read.
        OvsegError: it is a link that leads out of the folder.
    """
    payload = inside(folder, record.path)
    if known.get(record.path) == stamp(payload):
        return True
    return file_sha256(payload) == record.sha256
