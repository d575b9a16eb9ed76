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
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
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
