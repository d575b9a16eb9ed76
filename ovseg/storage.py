"""Where results live: shard plans, records, manifests, content digests and atomic publishing.

A stage's folder is named by a digest of everything the result depends on; a record beside each
shard says what the shard holds, and the manifest, written last, says that the stage is whole. What
no record or manifest names does not exist. `ovseg.stages` runs stages on top of this.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from ovseg.errors import OvsegError

# --------------------------------------------------------------------------------------
# Digests


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


# --------------------------------------------------------------------------------------
# Atomic publishing


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """A name beside `path` that no reader looks at: `<name>.tmp-<uuid>`."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")


def discard(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(NotADirectoryError):  # a file stands where its folder would be
            path.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary file or folder its name, durably and all at once."""
    for item in [*temporary.rglob("*")] if temporary.is_dir() else [temporary]:
        _fsync(item)
    if temporary.is_dir() and path.exists():
        discard(path)  # a folder cannot be renamed onto a full one; its record is stale by now
    temporary.replace(path)
    _fsync(path.parent)


def publish_text(text: str, path: Path) -> None:
    """Write a text file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        publish(temporary, path)
    finally:
        discard(temporary)


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as zstd Parquet, byte-identical for equal tables; not atomic by itself."""
    pq.write_table(table, path, compression="zstd", row_group_size=122_880, store_schema=True)


# --------------------------------------------------------------------------------------
# Plans, records, manifests


class ShardPlan(BaseModel):
    """How a stage is cut: contiguous blocks of the sorted ids, made once and shared downstream."""

    model_config = ConfigDict(frozen=True)

    counts: tuple[int, ...]
    """Items (images, say) in each shard."""
    ids_digest: str
    """sha256 over the ids in order: the same counts over other images are another plan."""

    @classmethod
    def blocks(cls, ids: Sequence[object], size: int, *, at_least: int = 1) -> ShardPlan:
        """Cut `ids` into blocks of at most `size`; into `at_least` blocks if there are enough."""
        size = max(1, min(size, len(ids) // at_least))
        counts = [min(size, len(ids) - start) for start in range(0, len(ids), size)]
        return cls(counts=tuple(counts), ids_digest=digest_json(list(ids)))

    @classmethod
    def single(cls, ids_digest: str, count: int = 1) -> ShardPlan:
        """A stage of one shard."""
        return cls(counts=(count,), ids_digest=ids_digest)

    def __len__(self) -> int:
        return len(self.counts)

    def span(self, shard: int) -> slice:
        """The items of one shard as a slice of the sorted ids."""
        start = sum(self.counts[:shard])
        return slice(start, start + self.counts[shard])


class ShardRecord(BaseModel):
    """What one finished shard holds."""

    model_config = ConfigDict(frozen=True)

    index: int
    path: str
    """Relative to the stage's folder."""
    rows: int
    bytes: int
    sha256: str
    stats: dict[str, Any] = {}
    seconds: float | None = Field(default=None, exclude=True)
    """Time of this very run; None when the record was found. Never written into the record."""


class Manifest(BaseModel):
    """A finished stage: what it was made from, with what, and which files it consists of."""

    model_config = ConfigDict(frozen=True)

    stage: str
    schema_version: int
    config: dict[str, Any]
    config_digest: str
    code_digest: str
    parents: dict[str, str]
    weights: dict[str, str]
    plan: ShardPlan
    shards: tuple[ShardRecord, ...]
    stats: dict[str, Any]
    folder: Path = Field(exclude=True)

    @property
    def digest(self) -> str:
        """The stage's own digest: the name of its folder."""
        return self.folder.name

    @property
    def content_digest(self) -> str:
        """sha256 over the shards' sha256s in order: what children depend on."""
        return digest_json([record.sha256 for record in self.shards])

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return sum(record.rows for record in self.shards)

    def paths(self) -> list[Path]:
        """Absolute paths of the shards' payloads, in order."""
        return [(self.folder / record.path).resolve() for record in self.shards]

    def payload(self) -> Path:
        """The payload of a stage of one shard."""
        (path,) = self.paths()
        return path

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All rows of a stage whose shards are Parquet files."""
        return pa.concat_tables([pq.read_table(path, columns=columns) for path in self.paths()])

    def shard_table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """The rows of one shard."""
        return pq.read_table(self.folder / self.shards[shard].path, columns=columns)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read `folder/manifest.json`.

        Raises:
            OvsegError: if there is none, or it is no manifest.
        """
        path = folder / "manifest.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")), folder=folder)
        except FileNotFoundError as error:
            raise OvsegError(
                f"{path} is missing: the stage never finished, run it again"
            ) from error
        except (TypeError, ValueError) as error:
            raise OvsegError(
                f"{path} is no manifest ({type(error).__name__}): delete it and run the stage again"
            ) from error
