"""The base relations of the catalogue: for each the select over the files that manifests name.

A relation nothing was published for is an empty one with the same columns, so that every view and
query runs from the first day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ovseg.analysis.statements import columns, empty, identifier, literal, scan, sql_type
from ovseg.analysis.tables import table_files
from ovseg.data.vocabulary import read_vocabulary, vocabulary_names
from ovseg.schema import (
    CLASS_SCORES,
    CONFUSION,
    CURATED,
    GT_MASKS,
    IMAGES,
    NOUNS,
    PAIR_TRUTH,
    PAIRS,
    PROPOSALS,
    SCORES,
    TRAINING_LOG,
)
from ovseg.storage import Manifest


@dataclass(frozen=True)
class Published:
    """A manifest in the catalogue.

    Attributes:
        manifest: what was published.
        labels: what tells it from others of its stage: dataset, round, source, query, benchmark,
            arm; strings all.
    """

    manifest: Manifest
    labels: dict[str, str]


def _prefixed(grain: str, prefix: Sequence[str], schema: pa.Schema | None = None) -> pa.Schema:
    fields = [pa.field(name, pa.string()) for name in prefix]
    return pa.schema([*fields, *(schema or ())], metadata={"grain": grain})


PUBLISHED = pa.schema(
    [
        *(
            pa.field(name, pa.string())
            for name in ("stage", "digest", "content_digest", "dataset", "round", "source")
        ),
        *(pa.field(name, pa.string()) for name in ("query", "benchmark", "arm")),
        pa.field("rows", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("folder", "config", "stats")),
    ],
    metadata={
        "grain": "one row for each stage result the catalogue is made of; config, stats JSON"
    },
)

BENCHMARK_RUNS = pa.schema(
    [
        *(
            pa.field(name, pa.string())
            for name in ("benchmark", "arm", "benchmark_digest", "checkpoint_digest")
        ),
        pa.field("images", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("config", "weights")),
    ],
    metadata={"grain": "one row for each arm on each benchmark; config and weights are JSON"},
)

VOCABULARIES = pa.schema(
    [
        pa.field("benchmark", pa.string()),
        pa.field("class_id", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("synonym", pa.string()),
    ],
    metadata={"grain": "one row for each name of a benchmark's class, its own name among them"},
)

CURATED_SETS = _prefixed(
    "one row for each pair of each curated training set", ("query", "curated_digest"), CURATED
)
RUN_CONFUSION = _prefixed(
    "one row for each benchmark run, image, ground-truth class and predicted class with pixels",
    ("benchmark", "benchmark_digest"),
    CONFUSION,
)
RUN_GT_MASKS = _prefixed(
    "one row for each benchmark run and ground-truth mask that CLIP classified",
    ("benchmark", "benchmark_digest"),
    GT_MASKS,
)

ARM_LOG = _prefixed(
    "one row for each arm and optimiser step of its last training phase",
    ("arm", "checkpoint_digest"),
    TRAINING_LOG,
)

RELATIONS: dict[str, pa.Schema] = {
    "images": IMAGES,
    "nouns": NOUNS,
    "proposals": PROPOSALS,
    "pairs": PAIRS,
    "pair_truth": PAIR_TRUTH,
    "curated": CURATED_SETS,
    "training_log": ARM_LOG,
    "confusion": RUN_CONFUSION,
    "gt_masks": RUN_GT_MASKS,
    "class_scores": CLASS_SCORES,
    "scores": SCORES,
    "benchmark_runs": BENCHMARK_RUNS,
    "vocabularies": VOCABULARIES,
    "published": PUBLISHED,
}
"""Every base relation with its columns; the metadata holds the grain."""


def base_relations(published: Sequence[Published]) -> dict[str, str]:
    """A select for each of `RELATIONS`, over exactly the files the manifests name."""

    def of(stage: str) -> list[Published]:
        return [item for item in published if item.manifest.stage == stage]

    def shards(stage: str) -> list[Path]:
        return [path for item in of(stage) for path in item.manifest.paths()]

    # A run of a benchmark is shown if the scores of some arm are of it: others are superseded.
    scores = of("scores")
    scored = {item.manifest.stats["benchmark_digest"] for item in scores}
    runs = [run for run in of("benchmarks") if run.manifest.digest in scored]
    return {
        "images": _parquet(IMAGES, shards("images")),
        "nouns": _parquet(NOUNS, shards("nouns")),
        "proposals": _parquet(PROPOSALS, shards("proposals")),
        "pairs": _parquet(
            PAIRS, [path for item in of("tables/pairs") for path in table_files(item.manifest)]
        ),
        "pair_truth": _parquet(PAIR_TRUTH, shards("pair-truth")),
        "curated": _labelled(
            CURATED_SETS,
            CURATED,
            [
                ((item.labels["query"], item.manifest.digest), item.manifest.paths())
                for item in of("curated")
            ],
        ),
        "training_log": _labelled(
            ARM_LOG, TRAINING_LOG, _in_payload(of("checkpoints"), "arm", "training_log.parquet")
        ),
        "confusion": _labelled(
            RUN_CONFUSION, CONFUSION, _in_payload(runs, "benchmark", "confusion.parquet")
        ),
        "gt_masks": _labelled(
            RUN_GT_MASKS, GT_MASKS, _in_payload(runs, "benchmark", "gt_masks.parquet")
        ),
        "class_scores": _class_scores(scores),
        "scores": _parquet(SCORES, [item.manifest.payload() / "scores.parquet" for item in scores]),
        "benchmark_runs": _rows(BENCHMARK_RUNS, _run_rows(scores, runs)),
        "vocabularies": _rows(VOCABULARIES, _vocabulary_rows()),
        "published": _rows(PUBLISHED, map(_published, published)),
    }


# --------------------------------------------------------------------------------------
# Selects


def _parquet(schema: pa.Schema, paths: Sequence[Path]) -> str:
    return f"select {columns(schema)} from {scan(paths)}" if paths else empty(schema)


def _labelled(
    whole: pa.Schema, schema: pa.Schema, parts: Iterable[tuple[Sequence[str], Sequence[Path]]]
) -> str:
    """Files of one schema, each part of them under constant leading columns."""
    selects = []
    for values, paths in parts:
        if paths:
            leading = ", ".join(
                f"{literal(value)} as {identifier(name)}"
                for value, name in zip(values, whole.names, strict=False)
            )
            selects.append(f"select {leading}, {columns(schema)} from {scan(paths)}")
    return "\nunion all\n".join(selects) or empty(whole)


def _rows(schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> str:
    """A handful of rows written into the view itself."""
    values = ",\n".join(
        "(" + ", ".join(literal(row.get(name)) for name in schema.names) + ")" for row in rows
    )
    if not values:
        return empty(schema)
    typed = ", ".join(
        f"cast({identifier(field.name)} as {sql_type(field.type)}) as {identifier(field.name)}"
        for field in schema
    )
    return f"select {typed} from (values\n{values}\n) as listed({columns(schema)})"


# --------------------------------------------------------------------------------------
# Rows


def _in_payload(
    items: Sequence[Published], label: str, name: str
) -> list[tuple[tuple[str, str], list[Path]]]:
    """The file of that name in each shard's folder, by one of the labels and the digest."""
    return [
        (
            (item.labels[label], item.manifest.digest),
            [folder / name for folder in item.manifest.paths() if (folder / name).is_file()],
        )
        for item in items
    ]


def _class_scores(scores: Sequence[Published]) -> str:
    """Class rows of each benchmark run once, though two arms may share it."""
    by_run = {item.manifest.stats["benchmark_digest"]: item.manifest for item in scores}
    return _parquet(
        CLASS_SCORES, [manifest.payload() / "class_scores.parquet" for manifest in by_run.values()]
    )


def _run_rows(scores: Sequence[Published], runs: Sequence[Published]) -> Iterator[dict[str, Any]]:
    by_digest = {run.manifest.digest: run.manifest for run in runs}
    for item in scores:
        stats = item.manifest.stats
        run = by_digest.get(stats["benchmark_digest"])
        yield {
            **item.labels,
            "benchmark_digest": stats["benchmark_digest"],
            "images": stats["images"],
            "checkpoint_digest": run and run.parents.get("checkpoint"),
            "config": run and _json(run.config),
            "weights": run and _json(run.weights),
        }


def _published(item: Published) -> dict[str, Any]:
    return {
        **item.labels,
        "stage": item.manifest.stage,
        "digest": item.manifest.digest,
        "content_digest": item.manifest.content_digest,
        "rows": item.manifest.rows,
        "folder": str(item.manifest.folder.resolve()),
        "config": _json(item.manifest.config),
        "stats": _json(item.manifest.stats),
    }


def _vocabulary_rows() -> list[dict[str, Any]]:
    return [
        {
            "benchmark": benchmark,
            "class_id": each.class_id,
            "class_name": each.name,
            "synonym": synonym,
        }
        for benchmark in vocabulary_names()
        for each in read_vocabulary(benchmark)
        for synonym in dict.fromkeys((each.name, *each.synonyms))
    ]


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
