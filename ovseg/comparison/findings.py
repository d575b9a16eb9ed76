"""Queries over the rows of a study: an estimate of each score and of each paired difference.

findings = read_findings(Manifest.read(root / "study" / digest))
findings.gain("both", "original", "mask_acc_unseen")
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from ovseg.comparison.words import interval, percent
from ovseg.config.reporting import StudyConfig
from ovseg.files.parquet_files import read_parquet
from ovseg.stages.manifest import Manifest

METRICS = {
    "mask_acc_seen": "GT masks seen",
    "mask_acc_unseen": "GT masks unseen",
    "mask_acc": "GT masks all",
    "miou_union_seen": "mIoU seen",
    "miou_union_unseen": "mIoU unseen",
    "miou_union": "mIoU all",
    "miou_union_harmonic": "mIoU harmonic",
    "miou_gt_seen": "mIoU (GT) seen",
    "miou_gt_unseen": "mIoU (GT) unseen",
    "miou_gt": "mIoU (GT) all",
    "pacc": "pixels",
}
"""The headings of a study's metrics, by name."""

MAIN = ("mask_acc_seen", "mask_acc_unseen", "miou_union_seen", "miou_union_unseen", "miou_union")
ALL = "all"
"""The seed of rows that are means over the seeds."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: over all images; a mean over the seeds or that of one.
        low: lower bound.
        high: upper bound.
        improved: for a difference, the share of draws in which it is above 0.
        student: for a mean over seeds, Student's t interval over the seeds' values alone.
    """

    value: float
    low: float
    high: float
    improved: float | None = None
    student: tuple[float, float] | None = None

    @property
    def plain(self) -> str:
        """In percent, `61.9 [58.1, 65.5]`."""
        return f"{percent(self.value, undefined='?')} {interval(self.low, self.high)}"

    @property
    def signed(self) -> str:
        """In points, `+10.7 [8.1, 13.2]`."""
        return f"{percent(self.value, sign='+', undefined='?')} {interval(self.low, self.high)}"


class Findings:
    """The rows of a study, by model, metric and seed.

    Args:
        table: rows of `ovseg.stages.schema.STUDY`.
        config: the comparison.
    """

    def __init__(self, table: pa.Table, config: StudyConfig) -> None:
        self.config = config
        self.titles = dict(config.arms)
        self._found: dict[tuple[str | None, ...], Estimate] = {}
        seeds: dict[str, None] = {}
        student: dict[tuple[str | None, ...], tuple[float, float]] = {}
        for row in table.to_pylist():
            of_all = row["seed"] == ALL
            if not of_all:
                seeds[row["seed"]] = None
            elif row["kind"] == "seeds":
                student[row["arm"], row["baseline"], row["metric"]] = row["low"], row["high"]
                continue
            self._found[row["seed"], row["arm"], row["baseline"], row["metric"]] = Estimate(
                row["value"], row["low"], row["high"], row["improved"]
            )
        for key, bounds in student.items():
            self._found[ALL, *key] = replace(self._found[ALL, *key], student=bounds)
        self.seeds = list(seeds)

    @property
    def metrics(self) -> list[str]:
        """The benchmark's metrics that have a mean over the seeds."""
        known = {key[3] for key in self._found if key[0] == ALL}
        return [name for name in METRICS if name in known]

    @property
    def main(self) -> list[str]:
        """The metrics of the main table; those over all classes if none are unseen."""
        some = [name for name in MAIN if name in self.metrics]
        return (
            some if len(some) > 1 else [n for n in ("mask_acc", "miou_union") if n in self.metrics]
        )

    def score(self, arm: str, metric: str, seed: str = ALL) -> Estimate | None:
        """Return a score; None if undefined."""
        return self._found.get((seed, arm, None, metric))

    def gain(self, arm: str, baseline: str, metric: str, seed: str = ALL) -> Estimate | None:
        """Return the paired difference arm minus baseline; None if there is none."""
        return self._found.get((seed, arm, baseline, metric))

    def seeds_of(self, arm: str) -> list[str]:
        """Return the seeds that an arm was scored with."""
        return [s for s in self.seeds if self.score(arm, "miou_union", s) is not None]

    @property
    def uneven(self) -> bool:
        """Whether some arms were scored with fewer seeds than others."""
        return len({len(self.seeds_of(arm)) for arm in self.titles}) > 1

    def title(self, arm: str) -> str:
        """Return the title of an arm."""
        return self.titles.get(arm, arm)

    @property
    def challengers(self) -> list[str]:
        """Every arm but the baseline."""
        return [arm for arm in self.titles if arm != self.config.baseline]


def read_findings(study: Manifest) -> Findings:
    """Read the findings of a finished study."""
    return Findings(read_parquet(study.payload() / "study.parquet"), StudyConfig(**study.config))


def metrics(findings: Findings) -> dict[str, float]:
    """Return the main means over seeds with bounds, under MLflow's metric names."""
    flat: dict[str, float] = {}
    name = findings.config.benchmark
    for metric in findings.main:
        for arm in findings.titles:
            flat.update(_metric(f"{name}/{arm}/{metric}", findings.score(arm, metric)))
            for baseline in findings.titles:
                gain = findings.gain(arm, baseline, metric)
                flat.update(_metric(f"{name}/{arm}-minus-{baseline}/{metric}", gain))
    return flat


def _metric(name: str, estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return {}
    bounds = {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
    if estimate.improved is not None:
        bounds["improved"] = estimate.improved
    return {f"{name}/{bound}": value for bound, value in bounds.items()}
