"""Digests of JSON values, files and folders: what results are named after and checked by."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path


def digest_json(value: object) -> str:
    """The sha256 (64 hex digits) of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 (64 hex digits) of a file, or of a folder's files by relative name and content."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest_json([[p.relative_to(path).as_posix(), file_sha256(p)] for p in files])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`file_sha256` of a file, hashed once a process for as long as its size and time stay."""
    stat = path.stat()
    return _hashed(path.resolve(), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    # size and time are part of the key only: an edited file is read again
    return file_sha256(path)
