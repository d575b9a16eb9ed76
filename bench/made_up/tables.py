"""Published results of N pairs, made up but shaped like mined ones, for measuring SQL and files.

    manifests = publish(Path("/tmp/tables"), Scale(pairs=1_320_000))
    con = open_catalog(Path("/tmp/tables"))

Nouns follow a Zipf-Mandelbrot law over 12,000 lemmas, the class words of the benchmarks among them;
an image has five captions whose text contains its nouns where the mentions say, ten proposals, and
about eleven pairs, as COCO has. Gates, ranks, drop reasons, ground-truth pairs, judgments, training
sets and benchmark runs are there, so that every view, query and check has rows to work on, and
every check passes. Masks are COCO RLE strings of random blobs of which a share of the characters is
redrawn: no two are equal and they compress like real ones, but they do not decode.

Stages are published by the code that publishes real ones: staging shards of 10,000 images are
compacted into tables, selected into training sets, and put into a catalog.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from bench.made_up.draws import BLOCK, Block, Scale
from bench.made_up.rows import (
    JUDGED,
    LABELLED,
    LABELS,
    Made,
    image_rows,
    label_rows,
    mask_noun_rows,
    mined_rows,
    noun_rows,
    proposal_rows,
    truth_rows,
)
from bench.made_up.runs import ARMS, benchmark_tables, score_tables, training_log
from ovseg.catalog.catalog import build_catalog
from ovseg.config.mining import TableConfig, load_curation
from ovseg.config.scoring import BenchmarkConfig, ScoresConfig
from ovseg.config.training import FinetuneConfig
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage

CURATIONS = ("one_caption", "mutual_best")


def pair_shards(root: Path, scale: Scale) -> Manifest:
    """Publish the staging shards of pairs of `scale.source`."""
    blocks = scale.blocks if scale.source == "mined" else -(-scale.images // LABELLED // BLOCK)
    makers = {"mined": mined_rows, "gt_label": label_rows, "gt_noun": mask_noun_rows}
    make = makers[scale.source]
    return run_stage(
        Made("pairs", lambda shard: make(Block(scale, shard)), shards=blocks), scale, {}, root
    )


def publish(root: Path, scale: Scale) -> dict[str, Manifest]:
    """Publish everything under a root, with its catalog; what is there already is only read."""

    def stage(name: str, make: Callable[[Block], pa.Table]) -> Manifest:
        made = Made(name, lambda shard: make(Block(scale, shard)), shards=scale.blocks)
        return run_stage(made, scale, {}, root)

    manifests = {
        "images": stage("images", image_rows),
        "nouns": stage("nouns", noun_rows),
        "proposals": stage("proposals", proposal_rows),
    }
    for source in ("mined", "gt_label", "gt_noun"):
        shards = pair_shards(root, scale.model_copy(update={"source": source}))
        config = TableConfig(dataset=scale.dataset, source=source)  # type: ignore[arg-type]
        manifests[f"table/{source}"] = run_stage(PAIR_TABLE, config, {"pairs": shards}, root)
    table = {"table": manifests["table/mined"]}
    for query in CURATIONS:
        manifests[f"curated/{query}"] = run_stage(CURATE, load_curation(query), table, root)
    judged = Made(
        "pair-truth",
        lambda shard: truth_rows(Block(scale, shard)),
        shards=min(scale.blocks, -(-JUDGED // BLOCK)),
    )
    manifests["truth"] = run_stage(judged, scale, table, root)
    for index, arm in enumerate(ARMS):
        if arm != "original":
            log = Made("checkpoints", lambda _, seed=index: {"training_log": training_log(seed)})
            config_ = FinetuneConfig(seed=index)
            manifests[f"checkpoint/{arm}"] = run_stage(log, config_, {}, root)
        manifests |= _scored(root, arm, index)
    build_catalog(root, manifests)
    return manifests


def _scored(root: Path, arm: str, index: int) -> dict[str, Manifest]:
    """Publish the benchmark run and the scores of an arm."""
    run = Made("benchmarks", lambda _: benchmark_tables(index))
    config = BenchmarkConfig(benchmark=LABELS, ensemble_weight=0.5 + index / 10)
    benchmark = run_stage(run, config, {}, root)
    scores = Made("scores", lambda _: score_tables(arm, index, benchmark.digest))
    scores.stats = {
        "benchmark": LABELS,
        "benchmark_digest": benchmark.digest,
        "arm": arm,
        "images": 5000,
        "scores": {},
    }
    made = run_stage(scores, ScoresConfig(arm=arm, seed=index), {"benchmark": benchmark}, root)
    return {f"benchmark/{LABELS}/{arm}": benchmark, f"scores/{LABELS}/{arm}": made}
