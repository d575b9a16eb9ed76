"""Search of the ensemble weight and mask threshold, on images that are not used for scoring.

    counts = run_stage(TUNING_COUNTS, config, {"checkpoint": checkpoint}, Path("runs/x"))
    run_stage(TUNING, config, {"counts": counts}, Path("runs/x"))

The authors of OVSeg state that they chose both for each data set on its test set, so scores under
the published values are slightly optimistic. Here the images are from the training side; a
validation set is rejected unless you insist, and the table then says so.

An image goes through the MaskFormer once and through CLIP once per threshold; the two branches are
then combined for each weight. So 7 weights at 4 thresholds cost four times the CLIP of one
benchmark and once its proposals, plus a label map each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ovseg.config.scoring import BenchmarkConfig, TuneConfig
from ovseg.data.benchmarks.vocabulary import vocabulary_names
from ovseg.errors import OvsegError
from ovseg.evaluation.benchmark import BENCHMARK, benchmark_segmentor
from ovseg.evaluation.metrics import ClassCounts, Confusion, segmentation_scores
from ovseg.evaluation.protocol import protocol_columns
from ovseg.evaluation.samples import UsableSamples, open_benchmark
from ovseg.evaluation.splits import HEADLINE, benchmark_splits
from ovseg.files.digests import known_sha256
from ovseg.files.parquet_files import read_parquet, write_parquet
from ovseg.models.build import class_weights
from ovseg.models.devices import clip_name
from ovseg.models.segmentor import Segmentor
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import TUNING as TUNING_ROWS
from ovseg.stages.schema import TUNING_COUNTS as COUNT_ROWS
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage

Row = dict[str, Any]
Setting = tuple[float, float]
"""Mask threshold, ensemble weight."""


class TuningCountsStage(Stage[TuneConfig]):
    """The counts of each class under each setting, image blocks as shards.

    Optional input: `checkpoint`, a CLIP.
    """

    name = "tuning-counts"

    def plan(self, config: TuneConfig, inputs: Inputs) -> ShardPlan:
        """Use that of the benchmark."""
        if config.benchmark.segmentor == "pixels":
            raise OvsegError(
                "benchmarks.segmentor=pixels has no ensemble weight to search: use"
                " benchmarks.segmentor=proposals"
            )
        return BENCHMARK.plan(config.benchmark, inputs)

    def weights(self, config: TuneConfig, inputs: Inputs) -> dict[str, str]:
        """Use that of the benchmark."""
        return BENCHMARK.weights(config.benchmark, inputs)

    def write(
        self, config: TuneConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Segment one block of images under every setting."""
        setting = config.benchmark
        benchmark = open_benchmark(setting)
        span = self.plan(config, inputs).span(shard)
        clip = clip_name(setting.clip, inputs)
        segmentor = benchmark_segmentor(setting, benchmark, clip=clip)
        assert isinstance(segmentor, Segmentor)  # the plan would have been rejected otherwise
        k, ignore = len(benchmark.classes), benchmark.ignore_index
        seen = benchmark_splits(setting, benchmark.classes).get(HEADLINE, ())
        of_classes = {  # a separate weight of the seen classes stays
            weight: class_weights(setting.model_copy(update={"ensemble_weight": weight}), k, seen)
            for weight in config.weights
        }
        totals = {
            (threshold, weight): Confusion(k, ignore)
            for threshold in config.thresholds
            for weight in config.weights
        }
        samples = UsableSamples(benchmark, benchmark.samples[span], progress)
        for _, image, labels in samples:
            proposals = segmentor.propose(image)
            if proposals.class_probabilities is None:
                raise OvsegError(
                    f"{setting.proposals} {setting.maskformer} scores no classes of this"
                    f" benchmark, or does not score any (ensemble {setting.ensemble}): there is no"
                    " ensemble weight to search"
                )
            for threshold in config.thresholds:
                scored_masks = segmentor.name_masks(
                    proposals.image, proposals.masks, threshold=threshold
                )
                for weight in config.weights:
                    predicted = segmentor.segment_named(
                        proposals, scored_masks, size=labels.shape, weight=of_classes[weight]
                    )
                    totals[threshold, weight].update(labels, predicted)
        rows = [row for key, total in totals.items() for row in _count_rows(key, total)]
        write_parquet(rows_to_table(rows, COUNT_ROWS), target)
        return Output(rows=len(rows), stats=samples.stats())

    def summarize(
        self, config: TuneConfig, inputs: Inputs, records: Sequence[Any]
    ) -> dict[str, Any]:
        """Return the shards' counts, the class names and the splits."""
        benchmark = open_benchmark(config.benchmark)
        return {
            **super().summarize(config, inputs, records),
            "class_names": list(benchmark.classes),
            "splits": benchmark_splits(config.benchmark, benchmark.classes),
        }


class TuningStage(Stage[TuneConfig]):
    """The scores of each setting: rows of `ovseg.stages.schema.TUNING`; input: `counts`."""

    name = "tunings"

    def plan(self, config: TuneConfig, inputs: Inputs) -> ShardPlan:
        """One shard."""
        return ShardPlan.single(inputs["counts"].digest)

    def write(
        self, config: TuneConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Add up, score, and mark the best setting."""
        rows = tuning_rows(inputs["counts"], config)
        write_parquet(rows_to_table(rows, TUNING_ROWS), target)
        progress(1)
        (best,) = [row for row in rows if row["best"]]
        stats = {
            "benchmark": config.benchmark.benchmark,
            "arm": config.arm,
            "split": config.split,
            "metric": config.metric,
            "images": best["images"],
            "best": {key: best[key] for key in ("mask_threshold", "ensemble_weight", "value")},
        }
        return Output(rows=len(rows), stats=stats)


TUNING_COUNTS = TuningCountsStage()
TUNING = TuningStage()


def _count_rows(key: Setting, total: Confusion) -> Iterable[Row]:
    counts = total.class_counts()
    for index in np.flatnonzero(counts.gt_pixels + counts.predicted_pixels).tolist():
        yield {
            "mask_threshold": key[0],
            "ensemble_weight": key[1],
            "class_id": index,
            **{name: int(values[index]) for name, values in vars(counts).items()},
        }


def tuning_rows(counts: Manifest, config: TuneConfig) -> list[Row]:
    """Score each setting, in the configured order; of equal scores the first is the best.

    Raises:
        OvsegError: if no image could be scored.
    """
    k, stats = len(counts.stats["class_names"]), counts.stats
    table = pa.concat_tables([read_parquet(path) for path in counts.paths()])
    seen = stats["splits"].get(HEADLINE)
    rows: list[Row] = []
    for threshold in config.thresholds:
        for weight in config.weights:
            scores = segmentation_scores(_counts_of(table, threshold, weight, k), seen)
            if np.isnan(scores["miou_union"]):
                raise OvsegError(
                    f"no image of {config.benchmark.root} has a labelled pixel: tune on other"
                    " images"
                )
            defined = {name: value for name, value in scores.items() if not np.isnan(value)}
            rows.append(
                {
                    **protocol_columns(counts, config.benchmark.model_dump(mode="json")),
                    "benchmark": config.benchmark.benchmark,
                    "arm": config.arm,
                    "split": config.split,
                    "metric": config.metric,
                    "value": scores[config.metric],
                    **{name: defined.get(name) for name in TUNING_ROWS.names if name in scores},
                    "mask_threshold": threshold,
                    "ensemble_weight": weight,
                }
            )
    best = max(rows, key=lambda row: row["value"])
    return [{**row, "best": row is best} for row in rows]


def _counts_of(table: pa.Table, threshold: float, weight: float, k: int) -> ClassCounts:
    columns = {name: table[name].to_numpy() for name in table.column_names}
    own = (columns["mask_threshold"] == threshold) & (columns["ensemble_weight"] == weight)
    sums = {name: np.zeros(k, dtype=np.int64) for name in ("hit", "gt_pixels", "predicted_pixels")}
    for name, values in sums.items():
        np.add.at(values, columns["class_id"][own], columns[name][own])
    return ClassCounts(**sums)


# --------------------------------------------------------------------------------------
# What may be tuned on


def check_training_side(root: Path, benchmarks: Iterable[BenchmarkConfig]) -> None:
    """Refuse a validation set as the split to tune on.

    Args:
        root: folder of the split.
        benchmarks: those the run scores; the images of any that has a folder are compared.

    Raises:
        OvsegError: if the folder is one of theirs, has the name of a published benchmark, as
            prepared validation sets do, or holds one of their images.
    """
    advice = "tune on images of the training side, or insist with --allow-validation"
    if root.resolve().name in vocabulary_names():
        raise OvsegError(
            f"{root} has the name of a benchmark and is taken for its validation set: {advice}"
        )
    contents: dict[str, Path] = {}
    for setting in benchmarks:
        if setting.root is None or not setting.root.is_dir():
            continue
        if setting.root.resolve() == root.resolve():
            raise OvsegError(f"{setting.benchmark} is scored on {root}: {advice}")
        theirs = open_benchmark(setting.model_copy(update={"limit": None}))
        contents |= {
            sha256: sample.image
            for (_, sha256, _), sample in zip(theirs.contents(), theirs.samples)
            if sha256 != "missing"
        }
    for path in sorted(path for path in (root / "images").glob("*") if path.is_file()):
        if (twin := contents.get(known_sha256(path))) is not None:
            raise OvsegError(f"{path} is the validation image {twin}: {advice}")
