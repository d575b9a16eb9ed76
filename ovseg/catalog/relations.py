"""The base relations of the catalog, each a select over the files that manifests name.

A relation without published results is empty but has the same columns, so that every view and query
always runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ovseg.catalog.published import Cataloged, Published
from ovseg.data.benchmarks.vocabulary import read_vocabulary, vocabulary_names
from ovseg.evaluation.protocol import read_published
from ovseg.mining.pairs.sql import identifier, select_files, select_labelled, select_rows
from ovseg.mining.pairs.table import table_files
from ovseg.stages.schema import (
    CLASS_SCORES,
    CONFUSION,
    CURATED,
    GT_MASKS,
    IMAGES,
    KIND_PIXELS,
    LEARNING_CURVE,
    NOUNS,
    PAIR_TRUTH,
    PAIRS,
    PROPOSALS,
    PUBLISHED_RESULTS,
    SCORES,
    TRAINING_LOG,
)


def _prefixed(grain: str, prefix: Sequence[str], schema: pa.Schema | None = None) -> pa.Schema:
    fields = [pa.field(name, pa.string()) for name in prefix]
    return pa.schema([*fields, *(schema or ())], metadata={"grain": grain})


PUBLISHED = pa.schema(
    [
        *(
            pa.field(name, pa.string())
            for name in ("stage", "digest", "content_digest", "dataset", "round", "source")
        ),
        *(pa.field(name, pa.string()) for name in ("query", "benchmark", "arm", "system")),
        pa.field("rows", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("folder", "config", "stats")),
    ],
    metadata={"grain": "one row for each stage result the catalog is made of; config, stats JSON"},
)

BENCHMARK_RUNS = pa.schema(
    [
        *(
            pa.field(name, pa.string())
            for name in ("benchmark", "system", "arm", "benchmark_digest", "checkpoint_digest")
        ),
        pa.field("images", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("config", "weights")),
    ],
    metadata={"grain": "one row for each system, arm and benchmark; config and weights are JSON"},
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
RUN_KIND_PIXELS = _prefixed(
    "one row for each benchmark run, image, kind of pixels and class with pixels of the kind",
    ("benchmark", "benchmark_digest"),
    KIND_PIXELS,
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

# --------------------------------------------------------------------------------------
# Rows


def _in_payload(
    items: Sequence[Published], label: str, name: str
) -> list[tuple[tuple[str, str], list[Path]]]:
    """Select the file of that name in each shard's folder, with one label and the digest."""
    return [
        (
            (item.labels[label], item.manifest.digest),
            [folder / name for folder in item.manifest.paths() if (folder / name).is_file()],
        )
        for item in items
    ]


def _class_scores(scores: Sequence[Published]) -> str:
    """Select the class rows of each benchmark run once, even if two arms share it."""
    by_run = {item.manifest.stats["benchmark_digest"]: item.manifest for item in scores}
    return select_files(
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


# --------------------------------------------------------------------------------------
# The relations


class Relation(NamedTuple):
    """A base relation.

    Attributes:
        schema: its columns; the metadata holds the grain.
        select: a function that returns the select over exactly the files that manifests name.
        constant: whether the rows are the same in every catalog; they are then written into it,
            because binding a select of thousands of values takes 0.1 s each time.
    """

    schema: pa.Schema
    select: Callable[[Cataloged], str]
    constant: bool = False


def _shards(schema: pa.Schema, stage: str) -> Relation:
    """Make the relation of a stage whose shards are Parquet files."""
    return Relation(schema, lambda all_: select_files(schema, all_.shards(stage)))


RELATIONS: dict[str, Relation] = {
    "images": _shards(IMAGES, "images"),
    "nouns": _shards(NOUNS, "nouns"),
    "proposals": _shards(PROPOSALS, "proposals"),
    "pairs": Relation(
        PAIRS,
        lambda all_: select_files(
            PAIRS, [file for item in all_.of("tables/pairs") for file in table_files(item.manifest)]
        ),
    ),
    "pair_truth": _shards(PAIR_TRUTH, "pair-truth"),
    "curated": Relation(
        CURATED_SETS,
        lambda all_: select_labelled(
            CURATED_SETS,
            CURATED,
            [
                ((item.labels["query"], item.manifest.digest), item.manifest.paths())
                for item in all_.of("curated")
            ],
        ),
    ),
    "training_log": Relation(
        ARM_LOG,
        lambda all_: select_labelled(
            ARM_LOG,
            TRAINING_LOG,
            _in_payload(all_.of("checkpoints"), "arm", "training_log.parquet"),
        ),
    ),
    "curve_points": Relation(
        LEARNING_CURVE,
        lambda all_: select_files(
            LEARNING_CURVE, [item.manifest.payload() for item in all_.curves]
        ),
    ),
    "confusion": Relation(
        RUN_CONFUSION,
        lambda all_: select_labelled(
            RUN_CONFUSION, CONFUSION, _in_payload(all_.runs, "benchmark", "confusion.parquet")
        ),
    ),
    "kind_pixels": Relation(
        RUN_KIND_PIXELS,
        lambda all_: select_labelled(
            RUN_KIND_PIXELS,
            KIND_PIXELS,
            _in_payload(all_.runs, "benchmark", "kind_pixels.parquet"),
        ),
    ),
    "gt_masks": Relation(
        RUN_GT_MASKS,
        lambda all_: select_labelled(
            RUN_GT_MASKS, GT_MASKS, _in_payload(all_.runs, "benchmark", "gt_masks.parquet")
        ),
    ),
    "class_scores": Relation(CLASS_SCORES, lambda all_: _class_scores(all_.of("scores"))),
    "scores": Relation(
        SCORES,
        lambda all_: select_files(
            SCORES, [item.manifest.payload() / "scores.parquet" for item in all_.of("scores")]
        ),
    ),
    "benchmark_runs": Relation(
        BENCHMARK_RUNS,
        lambda all_: select_rows(BENCHMARK_RUNS, _run_rows(all_.of("scores"), all_.runs)),
    ),
    "published_results": Relation(
        PUBLISHED_RESULTS,
        lambda _: select_rows(PUBLISHED_RESULTS, read_published()),
        constant=True,
    ),
    "vocabularies": Relation(
        VOCABULARIES, lambda _: select_rows(VOCABULARIES, _vocabulary_rows()), constant=True
    ),
    "published": Relation(
        PUBLISHED, lambda all_: select_rows(PUBLISHED, map(_published, all_.published))
    ),
}
"""Every base relation by name; the views of `sql/views` are made over these."""


class BaseRelation(NamedTuple):
    """A base relation over given results.

    Attributes:
        select: its SQL.
        contents: stage, labels and content of all results of the stages that the SQL reads.
        constant: see `Relation`.
    """

    select: str
    contents: list[tuple[str, dict[str, str], str]]
    constant: bool

    def statement(self, name: str) -> str:
        """Return the statement that makes the relation in a database."""
        return f"create {'table' if self.constant else 'view'} {identifier(name)} as {self.select}"


def base_relations(published: Sequence[Published]) -> dict[str, BaseRelation]:
    """Return each of `RELATIONS` over these results."""
    relations = {}
    for name, relation in RELATIONS.items():
        all_ = Cataloged(published)
        select = relation.select(all_)
        contents = [
            (item.manifest.stage, item.labels, item.manifest.content_digest)
            for item in published
            if item.manifest.stage in all_.asked
        ]
        relations[name] = BaseRelation(select, contents, relation.constant)
    return relations
