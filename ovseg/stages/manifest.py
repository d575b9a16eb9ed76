"""Shard plans, records and manifests: what a stage's folder holds.

A stage's folder is named by a digest of everything the result depends on. A record next to each
shard describes it, and the manifest, written last, means that the stage is whole. Files that no
record or manifest names do not count. `ovseg.stages.run` runs stages on top of this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.json_files import read_json
from ovseg.files.parquet_files import read_parquet


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
        raise ValueError(f"the path {path!r} leads out of its folder")
    return path


Relative = Annotated[str, AfterValidator(_relative)]
"""A path stored in a file, relative to a known folder."""


def inside(folder: Path, path: str) -> Path:
    """Return the absolute path of a `Relative` one.

    Raises:
        OvsegError: a link leads out of the folder.
    """
    try:
        home = folder.resolve()
        absolute = (home / path).resolve()
    except (OSError, RuntimeError) as error:  # circular links
        raise OvsegError(f"{folder / path} cannot be followed: {why_invalid(error)}") from error
    if not absolute.is_relative_to(home):
        raise OvsegError(
            f"{folder / path} leads out of {folder}, to {absolute}: a result must be in its own"
            " folder, put the file itself there or delete the link and run again"
        )
    return absolute


MAX_BYTES = 2**28
"""Of a record or manifest; the largest hold counts of 847 x 847 classes, a few MB."""
SEAL = "seal"
"""Key of the digest over the rest of a record or manifest, which reveals edits."""


def _sealed(model: BaseModel, *, sort_keys: bool = False) -> str:
    data = json.loads(model.model_dump_json())  # NaN becomes null
    data[SEAL] = digest_json(data)
    return json.dumps(data, indent=1, sort_keys=sort_keys, ensure_ascii=False) + "\n"


def _unsealed(path: Path) -> dict[str, Any]:
    """Read the data of a record or manifest file; earlier versions have no seal.

    Raises:
        OSError: it cannot be read.
        OvsegError: it is not JSON.
        ValueError: it is not what was written.
    """
    advice = "delete it and run the stage again"
    data = read_json(path, advice=advice, max_bytes=MAX_BYTES, lenient=True)
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    seal = data.pop(SEAL, None)
    if seal is not None and seal != digest_json(data):
        raise ValueError("it was changed since it was written")
    return data


def why_invalid(error: Exception) -> str:
    """Describe what is wrong with the data of a record, manifest or catalog, on one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return " ".join(f"{where}: {first['msg'].removeprefix('Value error, ')}".split())
    return " ".join(str(error).split()) or type(error).__name__


class ShardPlan(BaseModel):
    """The shards of a stage: contiguous blocks of the sorted ids, cut once, shared downstream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counts: tuple[int, ...]
    """Items (images, say) in each shard."""
    ids_digest: str
    """sha256 over the ids in order, so that equal counts of other images are another plan."""

    @classmethod
    def blocks(cls, ids: Sequence[object], size: int, *, at_least: int = 1) -> ShardPlan:
        """Cut `ids` into blocks of at most `size`; into `at_least` blocks if there are enough."""
        size = max(1, min(size, len(ids) // at_least))
        counts = [min(size, len(ids) - start) for start in range(0, len(ids), size)]
        return cls(counts=tuple(counts), ids_digest=digest_json(list(ids)))

    @classmethod
    def single(cls, ids_digest: str, count: int = 1) -> ShardPlan:
        """Return the plan of a stage with one shard."""
        return cls(counts=(count,), ids_digest=ids_digest)

    def __len__(self) -> int:
        return len(self.counts)

    def span(self, shard: int) -> slice:
        """Return the items of one shard as a slice of the sorted ids."""
        start = sum(self.counts[:shard])
        return slice(start, start + self.counts[shard])


class ShardRecord(BaseModel):
    """Description of one finished shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = Field(ge=0)
    path: Relative
    """Relative to the stage's folder."""
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    stats: dict[str, Any] = {}
    seconds: float | None = Field(default=None, exclude=True)
    """Time in this run; None if the record was read from disk. Never written to the record."""
    waits: dict[str, float] = Field(default={}, exclude=True)
    """Seconds of it by the part that was waited for (`ovseg.stages.stopwatch`); likewise."""

    def text(self) -> str:
        """Return the text of the record's file."""
        return _sealed(self)

    @classmethod
    def read(cls, path: Path) -> ShardRecord:
        """Read a record.

        Raises:
            OSError: it cannot be read.
            OvsegError: it is not JSON.
            ValueError: it is not a record, or was changed since it was written.
        """
        return cls.model_validate(_unsealed(path))


class Manifest(BaseModel):
    """A finished stage: its inputs, settings, code and files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        if [record.index for record in self.shards] != list(range(len(self.plan))):
            raise ValueError(f"its {len(self.shards)} shards do not match its plan")
        return self

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
        """Return the absolute paths of the shards' payloads, in order.

        Raises:
            OvsegError: one is a link that leads out of the stage's folder.
        """
        return [inside(self.folder, record.path) for record in self.shards]

    def payload(self) -> Path:
        """Return the payload of a stage with one shard."""
        (path,) = self.paths()
        return path

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """Read all rows of a stage whose shards are Parquet files."""
        return pa.concat_tables([read_parquet(path, columns) for path in self.paths()])

    def shard_table(self, shard: int, columns: list[str] | None = None) -> pa.Table:
        """Read the rows of one shard."""
        return read_parquet(inside(self.folder, self.shards[shard].path), columns)

    def text(self) -> str:
        """Return the text of the manifest's file."""
        return _sealed(self, sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read `folder/manifest.json`.

        Raises:
            OvsegError: it is missing, is not a manifest, or was changed since it was written.
        """
        path = folder / "manifest.json"
        try:
            return cls.model_validate({**_unsealed(path), "folder": folder})
        except FileNotFoundError as error:
            raise OvsegError(
                f"{path} is missing: the stage never finished, run it again"
            ) from error
        except OSError as error:
            raise OvsegError(
                f"{path} cannot be read ({error.strerror or error}): make it readable or run the"
                " stage again"
            ) from error
        except (TypeError, ValueError) as error:
            raise OvsegError(
                f"{path} is not a manifest ({why_invalid(error)}): delete it and run the stage"
                " again"
            ) from error
