"""The `Stage` contract: plan shards, write each one, merge their statistics.

A subclass of `Stage` names itself and writes one shard; `ovseg.stages.run` skips finished shards,
publishes atomically and writes the manifest. `run_stage` does all of it in one process:

    from ovseg.mining.nouns.stage import NOUNS
    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, Path("runs/demo"))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
    """Ignore progress."""


class Output(BaseModel):
    """Row count and statistics of the shard a stage has just written."""

    rows: int
    stats: dict[str, Any] = {}


class Stage(Generic[C]):
    """One step of the chain. A subclass defines `name` and `write`; the rest has defaults."""

    name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    suffix: ClassVar[str] = ".parquet"
    """File extension of a shard's payload; empty if the payload is a folder."""

    def plan(self, config: C, inputs: Inputs) -> ShardPlan:
        """Plan the shards; defaults to the plan of the first parent."""
        return next(iter(inputs.values())).plan

    def weights(self, config: C, inputs: Inputs) -> dict[str, str]:
        """Return the content digests of the model weights the stage uses."""
        return {}

    def session(self, config: C, inputs: Inputs) -> AbstractContextManager[None]:
        """Return the context in which shards are submitted; defaults to an empty one.

        It holds what shards share and what must end with them, such as worker processes. A shard
        that runs in another process does without it.
        """
        return nullcontext()

    def write(
        self, config: C, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Write the payload of one shard to `target` (a file, or a folder the stage makes)."""
        raise NotImplementedError

    def write_together(
        self, runs: Sequence[tuple[C, Inputs, Path]], *, shard: int, progress: Progress
    ) -> list[Output]:
        """Write one shard of several runs that have the same plan; defaults to one by one.

        A stage in which runs have work in common overrides this to do it once. What it writes for a
        run must not depend on the others.

        Args:
            runs: configuration, inputs and target of each.
            shard: number of the shard.
            progress: called with the number of items finished, counted once for all runs.
        """
        outputs = []
        for place, (config, inputs, target) in enumerate(runs):
            advance = progress if place == 0 else no_progress
            outputs.append(self.write(config, inputs, target, shard=shard, progress=advance))
        return outputs

    def summarize(
        self, config: C, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """Return the stats of the whole stage; defaults to the sum of the shards' stats."""
        return merge_stats([record.stats for record in records])

    def code_digest(self, config: C) -> str:
        """Return 16 hex digits over this module's code and the code that the settings name."""
        return code_digest({type(self).__module__, *config.modules_named()})

    def digest(self, config: C, inputs: Inputs, plan: ShardPlan) -> str:
        """Return 16 hex digits over everything the result depends on: the stage's folder name."""
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
    """Add up numbers, recursively through dicts; keep the first other value that is not None."""
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
