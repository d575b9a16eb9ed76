"""Stages: planned, run a shard at a time, finished once.

A subclass of `Stage` names itself and writes one shard; planning, skipping what is done, atomic
publishing and the manifest are here. `run_stage` does all of it in one process:

    from ovseg.mining.nouns.stage import NOUNS
    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, Path("runs/demo"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from ovseg.config.base import Config
from ovseg.files.digests import code_digest, digest_json
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.threads import torch_threads

Progress = Callable[[int], None]
"""Called with the number of items (images, pairs, steps) finished since the last call."""
C = TypeVar("C", bound=Config)
Inputs = Mapping[str, Manifest]


def no_progress(advance: int) -> None:
    """Progress nobody watches."""


class Output(BaseModel):
    """What a stage says of the shard it has just written."""

    rows: int
    stats: dict[str, Any] = {}


class Stage(Generic[C]):
    """One step of the chain. A subclass names itself and writes one shard; the rest is here."""

    name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    suffix: ClassVar[str] = ".parquet"
    """Of a shard's payload; empty for a folder of files."""

    def plan(self, config: C, inputs: Inputs) -> ShardPlan:
        """How the stage is cut into shards: as its first parent is, by default."""
        return next(iter(inputs.values())).plan

    def weights(self, config: C, inputs: Inputs) -> dict[str, str]:
        """Content digests of the model weights the stage uses."""
        return {}

    def write(
        self, config: C, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Write the payload of one shard to `target` (a file, or a folder the stage makes)."""
        raise NotImplementedError

    def summarise(
        self, config: C, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """The stats of the whole stage; by default the shards' stats added up."""
        return merge_stats([record.stats for record in records])

    def code_digest(self, config: C) -> str:
        """16 hex digits over the code that computes: this module, and what the settings name."""
        return code_digest({type(self).__module__, *config.modules_named()})

    def digest(self, config: C, inputs: Inputs, plan: ShardPlan) -> str:
        """The name of the stage's folder: 16 hex digits over all that the result depends on."""
        parts: list[Any] = [
            self.name,
            self.schema_version,
            plan.model_dump(mode="json"),
            {name: parent.content_digest for name, parent in inputs.items()},
            self.weights(config, inputs),
            config.digest(),
            self.code_digest(config),
        ]
        if (threads := torch_threads()) != 1:
            parts.append({"torch_threads": threads})
        return digest_json(parts)[:16]


def merge_stats(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up numbers, recursively through dicts; of anything else the first that is not None."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = merged.get(key)
            if old is None:
                merged[key] = dict(value) if isinstance(value, dict) else value
            elif isinstance(value, dict):
                merged[key] = merge_stats([old, value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                merged[key] = old + value
    return merged
