"""A hand-made run: six images with captions, nouns, proposals, pairs, two arms on a benchmark."""

import json
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_rows import (
    class_rows,
    curve_rows,
    image_rows,
    metric_rows,
    noun_rows,
    pair_rows,
    proposal_rows,
    truth_pair_rows,
    truth_rows,
)

from ovseg.catalog.catalog import build_catalog
from ovseg.config.base import Config
from ovseg.config.mining import NounsConfig, ProposalsConfig, TableConfig, load_curation
from ovseg.config.scoring import BenchmarkConfig, CurveConfig, ScoresConfig
from ovseg.config.training import FinetuneConfig
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.mining.pairs.curation import CURATE
from ovseg.mining.pairs.table import PAIR_TABLE
from ovseg.stages import schema
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.schema import rows_to_table
from ovseg.stages.stage import Output, Stage


class DatasetConfig(Config):
    """A stage that names its data set, as the images do."""

    dataset: str = "toy"


class Rows(Stage[Config]):
    """A stage whose shards are rows, or folders of tables, that a test wrote down."""

    def __init__(self, name, shards, kind=None, stats=None):
        self.name = name
        self.shards = shards
        self.kind = kind
        self.stats = stats or {}
        self.suffix = ".parquet" if kind is not None else ""

    def plan(self, config, inputs):
        return ShardPlan(counts=tuple(1 for _ in self.shards), ids_digest=self.name)

    def weights(self, config, inputs):
        return {"rows": digest_json(json.loads(json.dumps(self.shards, default=str)))}

    def write(self, config, inputs, target, *, shard, progress):
        if self.kind is not None:
            table = rows_to_table(self.shards[shard], self.kind)
            write_parquet(table, target)
            return Output(rows=table.num_rows)
        target.mkdir()
        for name, (rows, kind) in self.shards[shard].items():
            write_parquet(rows_to_table(rows, TABLES[kind]), target / name)
        return Output(rows=1)

    def summarize(self, config, inputs, records):
        return self.stats


TABLES = {
    "confusion": schema.CONFUSION,
    "gt_masks": schema.GT_MASKS,
    "kind_pixels": schema.KIND_PIXELS,
    "class_scores": schema.CLASS_SCORES,
    "scores": schema.SCORES,
    "training_log": schema.TRAINING_LOG,
}


@dataclass
class Run:
    """A root with the manifests of everything published under it."""

    root: Path
    manifests: dict = field(default_factory=dict)


def publish_rows(root, name, shards, kind, config=None):
    return run_stage(Rows(name, shards, kind), config or DatasetConfig(), {}, root)


def publish_table(root, rows=None, *, shards=2, dataset="toy", round=0, source="mined"):
    """Staging shards of these pair rows, and the published table of them."""
    rows = pair_rows(dataset, round) if rows is None else rows
    cuts = [len(rows) * i // shards for i in range(shards + 1)]
    parts = [rows[a:b] for a, b in pairwise(cuts)]
    pairs = publish_rows(root, "pairs", parts, schema.PAIRS)
    config = TableConfig(dataset=dataset, round=round, source=source)
    return run_stage(PAIR_TABLE, config, {"pairs": pairs}, root)


def publish_benchmark(root, arm, gain, system="ovseg"):
    confusion = [
        {"image_id": 1, "gt_class": 0, "predicted_class": 0, "pixels": 70},
        {"image_id": 1, "gt_class": 0, "predicted_class": 1, "pixels": 20},
        {"image_id": 1, "gt_class": 1, "predicted_class": 3, "pixels": 10},
    ]
    masks = [{"image_id": 1, "gt_class": 0, "predicted_class": 1, "gt_rank": 2}]
    kinds = [
        {"kind": "boundary", "class_id": 0, "hit": 5, "gt_pixels": 10, "predicted_pixels": 10},
        {"kind": "small", "class_id": 0, "hit": 2, "gt_pixels": 9, "predicted_pixels": 3},
    ]
    payload = {
        "kind_pixels.parquet": ([{"image_id": 1, **row} for row in kinds], "kind_pixels"),
        "confusion.parquet": (confusion, "confusion"),
        "gt_masks.parquet": (masks, "gt_masks"),
    }
    config = BenchmarkConfig(
        ensemble_weight=gain, system=system
    )  # another setting makes it another run
    benchmark = run_stage(Rows("benchmarks", [payload, payload]), config, {}, root)
    stats = {
        "benchmark": "storybook",
        "benchmark_digest": benchmark.digest,
        "arm": arm,
        "images": 2,
        "scores": {},
    }
    rows = {
        "class_scores.parquet": (class_rows(benchmark.digest, gain), "class_scores"),
        "scores.parquet": (metric_rows(benchmark.digest, arm, gain, system), "scores"),
    }
    scores = run_stage(Rows("scores", [rows], stats=stats), ScoresConfig(arm=arm), {}, root)
    return benchmark, scores


def publish_curve(root, checkpoint, arm="finetuned"):
    """The learning curve of an arm whose last phase left this checkpoint."""
    setting = CurveConfig(arm=arm, benchmark=BenchmarkConfig())
    stats = {"benchmark": "storybook", "checkpoint": checkpoint.content_digest}
    stage = Rows("curves", [curve_rows(arm)], schema.LEARNING_CURVE, stats)
    return run_stage(stage, setting, {"checkpoint": checkpoint}, root)


@pytest.fixture(scope="session")
def toy():
    """The builders above, for tests that vary what they build."""
    return SimpleNamespace(
        pair_rows=pair_rows,
        image_rows=image_rows,
        noun_rows=noun_rows,
        proposal_rows=proposal_rows,
        truth_rows=truth_rows,
        truth_pair_rows=truth_pair_rows,
        class_rows=class_rows,
        metric_rows=metric_rows,
        publish_rows=publish_rows,
        publish_table=publish_table,
        publish_benchmark=publish_benchmark,
        publish_curve=publish_curve,
        Rows=Rows,
    )


@pytest.fixture(scope="session")
def report_run(toy, tiny_clip, tiny_maskformer, tmp_path_factory):
    """A run of two arms with hostile captions and broken images, to be reported."""
    import torch
    from report_run import make_run

    from ovseg.models.clip.load import load_clip
    from ovseg.models.clip.save import save_clip

    torch.manual_seed(1)
    adapted = load_clip(str(tiny_clip))
    with torch.no_grad():
        for weight in adapted.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    folder = save_clip(adapted, tmp_path_factory.mktemp("adapted"))
    return make_run(toy, tmp_path_factory.mktemp("report"), tiny_clip, folder, tiny_maskformer)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A whole run with its catalogue. Tests only read it."""
    root = tmp_path_factory.mktemp("a root with 'quotes'")
    run = Run(root)
    images, nouns, proposals = image_rows(), noun_rows(), proposal_rows()
    table = publish_table(root)
    log = [{"step": 1, "epoch": 0, "loss": 2.0, "learning_rate": 1e-5, "logit_scale": 100.0}]
    run.manifests = {
        "images": publish_rows(root, "images", [images[:3], images[3:]], schema.IMAGES),
        "nouns": publish_rows(root, "nouns", [nouns[:9], nouns[9:]], schema.NOUNS, NounsConfig()),
        "proposals": publish_rows(
            root, "proposals", [proposals], schema.PROPOSALS, ProposalsConfig()
        ),
        "pairs": publish_rows(root, "pairs", [pair_rows()], schema.PAIRS),
        "table": table,
        "curated": run_stage(CURATE, load_curation("paper"), {"table": table}, root),
        "truth": publish_rows(root, "pair-truth", [truth_rows()], schema.PAIR_TRUTH, Config()),
        "checkpoint/finetuned": run_stage(
            Rows("checkpoints", [{"training_log.parquet": (log, "training_log")}]),
            FinetuneConfig(),
            {},
            root,
        ),
    }
    run.manifests["curve/finetuned"] = publish_curve(root, run.manifests["checkpoint/finetuned"])
    build_catalog(root, run.manifests)
    for arm, gain in (("original", 0.0), ("finetuned", 0.1)):
        benchmark, scores = publish_benchmark(root, arm, gain)
        run.manifests |= {f"benchmark/{arm}": benchmark, f"scores/{arm}": scores}
        build_catalog(root, {"benchmark": benchmark, "scores": scores})
    return run
