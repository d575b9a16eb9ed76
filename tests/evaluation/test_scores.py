"""The tables of scores: protocol, intervals, and that shards and workers change no byte."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from toy_benchmarks import random_images, toy_benchmark

from ovseg.config.scoring import BenchmarkConfig, ScoresConfig
from ovseg.evaluation import samples
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.counts import KINDS
from ovseg.evaluation.intervals import MASKS, PIXELS, ImageCounts, draw_images, resampled_scores
from ovseg.evaluation.metrics import Confusion
from ovseg.evaluation.protocol import denominator, vocabulary_digest
from ovseg.evaluation.scores import SCORES
from ovseg.stages.run import finish, run_shard, run_stage, stage_folder
from ovseg.stages.schema import CLASS_SCORES
from ovseg.stages.schema import SCORES as SCORE_ROWS
from ovseg.storybook.world import write_world

FILES = ("scores.parquet", "class_scores.parquet")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    world = tmp_path_factory.mktemp("world")
    write_world(world, part="val", n=6, size=96, seed=0)
    return BenchmarkConfig(
        root=world,
        short_side=96,  # the shipped models, which see something, unlike random ones
        templates="single",
        trained_on=("coco-stuff-171",),
        min_shards=6,
        device="cpu",
    )


@pytest.fixture(scope="module")
def single(config, tmp_path_factory):
    """A run by one worker, shard after shard."""
    return run_stage(BENCHMARK, config, {}, tmp_path_factory.mktemp("single"))


def tables(benchmark, root, **changed):
    scores = run_stage(SCORES, ScoresConfig(arm="a", **changed), {"benchmark": benchmark}, root)
    return {name: (scores.payload() / name).read_bytes() for name in FILES}, scores


def values(scores):
    table = pq.read_table(scores.payload() / "scores.parquet").drop(["benchmark_digest"])
    return table.to_pylist()


# ---------------------------------------------------------------------------- work done in any way

WORKER = """
import sys
from pathlib import Path
from ovseg.config.scoring import BenchmarkConfig
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.stages.run import run_stage
config = BenchmarkConfig.model_validate_json(sys.argv[1])
run_stage(BENCHMARK, config, {}, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_and_resumed_by_several_workers_it_leaves_the_same_bytes(config, single, tmp_path):
    folder, _ = stage_folder(BENCHMARK, config, {}, tmp_path)
    command = [sys.executable, "-c", WORKER, config.model_dump_json(), str(tmp_path)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE)
    while worker.poll() is None and not (folder / "shard-00001.json").is_file():
        time.sleep(0.01)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    finish_by_three(config, single, tmp_path)


def test_stopped_within_a_shard_it_goes_on_to_the_same_bytes(config, single, tmp_path, monkeypatch):
    whole = config.model_copy(update={"min_shards": 3})
    single = run_stage(BENCHMARK, whole, {}, tmp_path / "single")
    read, calls = samples.read_sample, []

    def stopped(benchmark, sample):
        calls.append(sample)
        if len(calls) == 4:  # the second image of the second shard
            raise KeyboardInterrupt
        return read(benchmark, sample)

    with monkeypatch.context() as patch:
        patch.setattr(samples, "read_sample", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_stage(BENCHMARK, whole, {}, tmp_path)
    finish_by_three(whole, single, tmp_path)


def finish_by_three(config, single, root):
    """What is left of a run is shared by three workers, last shard first."""
    folder, plan = stage_folder(BENCHMARK, config, {}, root)
    assert 1 <= len([*folder.glob("shard-*.json")]) < len(plan)
    with ThreadPoolExecutor(3) as pool:
        shards = reversed(range(len(plan)))
        list(pool.map(lambda s: run_shard(BENCHMARK, config, {}, folder, shard=s), shards))
    resumed = finish(BENCHMARK, config, {}, folder, plan)
    assert resumed.content_digest == single.content_digest
    manifests = [(run.folder / "manifest.json").read_bytes() for run in (single, resumed)]
    assert manifests[0] == manifests[1]
    assert tables(resumed, root / "1")[0] == tables(single, root / "2")[0]


@pytest.mark.parametrize("cut", [{"min_shards": 1}, {"min_shards": 1, "shard_size": 4}])
def test_other_shards_give_the_same_values_to_the_bit(config, single, tmp_path, cut):
    other = run_stage(BENCHMARK, config.model_copy(update=cut), {}, tmp_path)
    assert len(other.plan) < len(single.plan) and other.stats == single.stats
    assert values(tables(other, tmp_path)[1]) == values(tables(single, tmp_path / "1")[1])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_neither_shards_nor_the_order_of_images_change_a_score(seed, shards):
    import tempfile
    from pathlib import Path

    images = random_images(np.random.default_rng(seed), 6, 0.5)
    order = np.random.default_rng(seed).permutation(6)
    found = []
    for given_images, cut in ((images, 1), ([images[i] for i in order], shards)):
        with tempfile.TemporaryDirectory() as folder:
            run = toy_benchmark(Path(folder), given_images, shards=cut)
            found.append(values(tables(run, Path(folder), resamples=20)[1]))
    assert found[0] == found[1]


# ---------------------------------------------------------------------------- what a row says


def test_every_row_names_its_protocol_and_interval(config, single, tmp_path):
    _, scores = tables(single, tmp_path)
    table = pq.read_table(scores.payload() / "scores.parquet")
    assert table.schema.equals(SCORE_ROWS, check_metadata=True)
    names = single.stats["class_names"]
    for row in table.to_pylist():
        assert row["vocabulary_digest"] == vocabulary_digest(names)
        assert (row["clip_digest"], row["maskformer_digest"]) == (
            single.weights["clip"],
            single.weights["maskformer"],
        )
        assert row["resize_rule"].startswith("short side 96, long side at most 2560; class decided")
        assert (row["mask_threshold"], row["ensemble_weight"]) == (0.4, 0.7)
        assert (row["ensemble"], row["oracle"]) == ("upstream", "none")
        assert (row["region"], row["expand_ratio"], row["inference"]) == ("mean", 1, "sum")
        assert row["system"] == "ovseg" and json.loads(row["settings"])["short_side"] == 96
        assert row["mask_prompts"]
        assert (row["images"], row["image_limit"], row["classes"]) == (6, None, len(names))
        assert row["trained_on"] == "coco-stuff-171" and row["checkpoint_digest"] is None
        assert 0 <= row["low"] <= row["high"] <= 1 and row["level"] == 0.95
    metrics = {row["metric"]: row["denominator"] for row in table.to_pylist()}
    assert metrics["miou_union"] == metrics["miou_union_seen"] == "union"
    assert metrics["boundary_miou_gt"] == metrics["miou_gt_small"] == metrics["macc"] == "gt"
    assert (metrics["pacc"], metrics["mask_acc_top5"]) == ("pixels", "masks")
    assert metrics["mask_acc_class"] == "mask classes"
    with pytest.raises(ValueError, match="unknown metric"):
        denominator("miou")
    limited = run_stage(BENCHMARK, config.model_copy(update={"limit": 2}), {}, tmp_path)
    assert {row["image_limit"] for row in values(tables(limited, tmp_path)[1])} == {2}


def test_the_interval_is_a_matter_of_the_seed(single, tmp_path):
    rows = [values(tables(single, tmp_path, seed=seed)[1]) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    assert any(row["low"] < row["value"] < row["high"] for row in rows[0])
    strip = [[row["value"] for row in each] for each in rows]
    assert strip[0] == strip[2]


def test_per_class_rows(single, tmp_path):
    _, scores = tables(single, tmp_path)
    table = pq.read_table(scores.payload() / "class_scores.parquet")
    assert table.schema.equals(CLASS_SCORES, check_metadata=True)
    rows = table.to_pylist()
    by_metric = {row["metric"]: row["value"] for row in values(scores)}
    for column, metric in (
        ("iou", "miou_gt"),
        ("boundary_iou", "boundary_miou_gt"),
        ("iou_small", "miou_gt_small"),
    ):
        own = [row[column] for row in rows if row["gt_pixels"] and row[column] is not None]
        assert np.mean(own) == pytest.approx(by_metric[metric])
    # sea, beach ... the storybook's words against those of COCO-Stuff
    seen = {row["class_name"] for row in rows if row["seen"]}
    assert {"house", "tree", "cat", "sea"} <= seen and "moon" not in seen
    assert all(row["published_seen"] is None for row in rows)
    assert all((row["gt_mask_top5"] or 0) >= (row["gt_mask_accuracy"] or 0) for row in rows)


# ---------------------------------------------------------------------------- 847 classes


def test_many_classes_and_images_stay_small():
    """5,000 images of 847 classes: sums of 200 draws in seconds, without dense counts."""
    rng = np.random.default_rng(0)
    n, k, shown = 5000, 847, 12
    image = np.repeat(np.arange(n), shown)
    klass = rng.integers(0, k, n * shown)

    def counts():
        pixels = rng.integers(1, 1000, n * shown)
        return csr_array((pixels, (image, klass)), shape=(n, k), dtype=np.int64)

    keys = [(kind, name) for kind in ("pixels", *KINDS) for name in PIXELS]
    keys += [("masks", name) for name in MASKS]
    parts = {key: counts() for key in keys}
    stored = sum(part.data.nbytes + part.indices.nbytes for part in parts.values())
    assert stored < n * k * 8  # all of them less than one dense array
    weights = draw_images(n, resamples=20, seed=0)
    scores = resampled_scores(ImageCounts(np.arange(n), parts, {"": [1, 2]}), weights)
    hit = weights[3] @ parts["pixels", "hit"].toarray()
    gt = weights[3] @ parts["pixels", "gt_pixels"].toarray()
    assert scores["pacc"][3] == hit.sum() / gt.sum()


def test_847_classes_against_boolean_loops():
    k, ignore = 847, 65535
    rng = np.random.default_rng(847)
    confusion = Confusion(k, ignore)
    pairs = []
    for _ in range(3):
        gt = rng.integers(0, k, (24, 25)).astype(np.uint16)
        pred = np.where(rng.random(gt.shape) < 0.5, gt, rng.integers(0, k + 1, gt.shape))
        gt[rng.random(gt.shape) < 0.1] = ignore
        confusion.update(gt, pred)
        pairs.append((gt, pred))
    counts = confusion.class_counts()
    for c in range(k):
        hit = union = truth = guess = 0
        for gt, pred in pairs:
            valid = gt != ignore
            a, b = (gt == c) & valid, (pred == c) & valid
            hit, union = hit + (a & b).sum(), union + (a | b).sum()
            truth, guess = truth + a.sum(), guess + b.sum()
        assert (counts.hit[c], counts.gt_pixels[c], counts.predicted_pixels[c]) == (
            hit,
            truth,
            guess,
        )
        assert counts.iou[c] == hit / union if union else np.isnan(counts.iou[c])
