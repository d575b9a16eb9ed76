"""The results that a catalog is made of, and which of them its relations read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ovseg.stages.manifest import Manifest


@dataclass(frozen=True)
class Published:
    """A manifest in the catalog.

    Attributes:
        manifest: what was published.
        labels: what distinguishes it from others of its stage: dataset, round, source, query,
            benchmark, arm, system; all strings.
    """

    manifest: Manifest
    labels: dict[str, str]


class Cataloged:
    """Everything the catalog points at, by stage.

    Attributes:
        published: the results.
        asked: the stages that were asked for.
    """

    def __init__(self, published: Sequence[Published]) -> None:
        self.published = published
        self.asked: set[str] = set()

    def of(self, stage: str) -> list[Published]:
        """Return the results of a stage."""
        self.asked.add(stage)
        return [item for item in self.published if item.manifest.stage == stage]

    def shards(self, stage: str) -> list[Path]:
        """Return the files of a stage whose shards are Parquet files."""
        return [path for item in self.of(stage) for path in item.manifest.paths()]

    @property
    def runs(self) -> list[Published]:
        """Return the benchmark runs that current scores were computed from, not superseded ones."""
        scored = {item.manifest.stats["benchmark_digest"] for item in self.of("scores")}
        return [run for run in self.of("benchmarks") if run.manifest.digest in scored]

    @property
    def curves(self) -> list[Published]:
        """Return the learning curves of current checkpoints."""
        trained = {
            (item.labels["arm"], item.manifest.content_digest) for item in self.of("checkpoints")
        }
        return [
            item
            for item in self.of("curves")
            if (item.labels["arm"], item.manifest.stats["checkpoint"]) in trained
        ]
