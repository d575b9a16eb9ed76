"""Learning curves: their ends are the benchmark's own accuracies, in blocks or not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ovseg.config.base import Config
from ovseg.config.scoring import BenchmarkConfig, CurveConfig
from ovseg.errors import OvsegError
from ovseg.evaluation import learning_curve
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.learning_curve import CURVES, PHASE_CURVES, not_traced
from ovseg.files.digests import digest_json
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.save import save_clip
from ovseg.models.regions import embedding
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.schema import LEARNING_CURVE, PHASE_CURVE
from ovseg.stages.stage import Output, Stage
from ovseg.training.clip.methods import freeze_except
from ovseg.training.clip.snapshots import SNAPSHOTS, save_snapshot

CLASSES = ("house", "tree", "sea", "moon")


class Trained(Stage[Config]):
    """Stands for a training phase: weights moved at random, with a snapshot at some steps."""

    name = "checkpoints"
    suffix = ""

    def __init__(self, start: Path, trains: str, steps: int, snapshots: tuple[int, ...]):
        self.start, self.trains, self.steps, self.snapshots = start, trains, steps, snapshots

    def plan(self, config, inputs):
        made = [str(self.start), self.trains, self.steps, self.snapshots]
        return ShardPlan.single(digest_json(made))

    def write(self, config, inputs, target, *, shard, progress):
        import torch

        model = load_clip(str(self.start))
        generator = torch.Generator().manual_seed(self.steps)
        moved = freeze_except(model, self.trains, train_logit_scale=True)
        for step in range(1, self.steps + 1):
            with torch.no_grad():
                for parameter in moved.values():
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            if step in self.snapshots:
                save_snapshot(target / SNAPSHOTS, step, moved)
        save_clip(model, target)
        return Output(rows=1, stats={"steps": self.steps})


def train(root, start, *, trains="image_encoder", steps=4, snapshots=(2, 4)):
    """A finished phase; its manifest says where it began, as the real one's does."""
    made = run_stage(Trained(start, trains, steps, snapshots), Config(), {}, root)
    return made.model_copy(update={"config": {"clip": str(start), "trains": trains}})


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Eight images with labels of three of four classes and some ignored pixels."""
    folder = tmp_path_factory.mktemp("benchmark")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    rng = np.random.default_rng(0)
    for index in range(8):
        pixels = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        labels = rng.choice([0, 1, 2, 255], (4, 4)).repeat(10, 0).repeat(14, 1)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels.astype(np.uint8)).save(folder / "labels" / f"{index}.png")
    return folder


@pytest.fixture
def config(benchmark, tiny_clip, tiny_maskformer):
    return BenchmarkConfig(
        benchmark="mini",
        root=benchmark,
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        short_side=64,
        max_side=128,
        templates="single",
        seen=("house", "tree"),
        batch_size=2,  # fewer than an image has masks
        device="cpu",
    )


def rows_of(manifest):
    return pq.read_table(manifest.payload()).to_pylist()


def accuracy(manifest, step, part):
    (row,) = [r for r in rows_of(manifest) if (r["step"], r["part"]) == (step, part)]
    return row["gt_mask_accuracy"]


def test_the_ends_are_what_the_benchmark_says(config, tiny_clip, tmp_path):
    first = train(tmp_path, tiny_clip)
    second = train(tmp_path, first.payload(), trains="mask_prompts", steps=3, snapshots=())
    points = {
        "1": run_stage(PHASE_CURVES, config, {"checkpoint": first}, tmp_path),
        "2": run_stage(PHASE_CURVES, config, {"checkpoint": second, "start": first}, tmp_path),
    }
    scores = {
        name: run_stage(BENCHMARK, config, inputs, tmp_path).stats["scores"]
        for name, inputs in {
            "original": {},
            "first": {"checkpoint": first},
            "second": {"checkpoint": second},
        }.items()
    }
    assert len({tuple(sorted(score.items())) for score in scores.values()}) == 3
    ends = {
        "original": (points["1"], 0),
        "first": (points["1"], 4),
        "second": (points["2"], 3),
    }
    for name, (manifest, step) in ends.items():
        for part, metric in (
            ("all", "mask_acc"),
            ("seen", "mask_acc_seen"),
            ("unseen", "mask_acc_unseen"),
        ):
            assert accuracy(manifest, step, part) == scores[name][metric], (name, part)
    for part in ("all", "seen", "unseen"):  # one phase begins where the other ended
        assert accuracy(points["2"], 0, part) == accuracy(points["1"], 4, part)
    assert [row["step"] for row in rows_of(points["1"])] == [0] * 3 + [2] * 3 + [4] * 3
    assert points["1"].plan.counts == (8 * 3,)

    setting = CurveConfig(arm="both", benchmark=config)
    curve = run_stage(CURVES, setting, points, tmp_path)
    table = pq.read_table(curve.payload())
    assert table.schema.equals(LEARNING_CURVE, check_metadata=True)
    found = [
        (row["phase"], row["trains"], row["step"], row["total_step"])
        for row in table.to_pylist()
        if row["part"] == "all"
    ]
    assert found == [
        (1, "image_encoder", 0, 0),
        (1, "image_encoder", 2, 2),
        (1, "image_encoder", 4, 4),
        (2, "mask_prompts", 0, 4),
        (2, "mask_prompts", 3, 7),
    ]
    assert set(table["arm"].to_pylist()) == {"both"}
    assert set(table["benchmark"].to_pylist()) == {"mini"}
    assert curve.stats["last"]["all"] == scores["second"]["mask_acc"]
    assert curve.stats["checkpoint"] == second.content_digest
    masks = {row["part"]: row["gt_masks"] for row in table.to_pylist()}
    assert masks["all"] == masks["seen"] + masks["unseen"] > 8


@pytest.mark.parametrize(
    "setting",
    [
        {"embedder": "mask_pooling"},
        {"embedder": "pixel_pooling"},
        {"segmentor": "pixels"},
        {"retrieval_weight": 0.3},
    ],
)
def test_there_is_no_curve_of_what_the_snapshots_do_not_name(config, tiny_clip, tmp_path, setting):
    other = config.model_copy(update=setting)
    assert not_traced(other) and not not_traced(config)
    with pytest.raises(OvsegError, match="this benchmark has no learning curve"):
        PHASE_CURVES.plan(other, {})


def test_blocks_do_not_change_the_points(config, tiny_clip, tmp_path, monkeypatch):
    tuned = train(tmp_path, tiny_clip)
    expected = run_stage(PHASE_CURVES, config, {"checkpoint": tuned}, tmp_path / "whole")
    cut = []
    real = embedding.region_crops
    monkeypatch.setattr(learning_curve, "BLOCK_BYTES", 1)  # an image a block
    monkeypatch.setattr(embedding, "region_crops", lambda *a, **k: cut.append(1) or real(*a, **k))
    steps = []
    blocks = run_stage(
        PHASE_CURVES, config, {"checkpoint": tuned}, tmp_path / "blocks", progress=steps.append
    )
    assert blocks.content_digest == expected.content_digest
    assert sum(steps) == 24
    batches = sum(-(-len(classes) // 2) for classes in classes_of(config))
    assert len(cut) == batches  # once an image, however many snapshots look at it
    assert pq.read_schema(blocks.payload()).equals(PHASE_CURVE, check_metadata=True)


def classes_of(config):
    """The classes in each label map."""
    for path in sorted((config.root / "labels").iterdir()):
        yield set(np.unique(np.array(Image.open(path)))) - {255}


def test_a_limit_takes_the_first_images(config, tiny_clip, tmp_path):
    tuned = train(tmp_path, tiny_clip)
    setting = CurveConfig(arm="finetuned", benchmark=config, limit=3)
    assert setting.scored.limit == 3
    few = run_stage(PHASE_CURVES, setting.scored, {"checkpoint": tuned}, tmp_path)
    benchmark = run_stage(BENCHMARK, setting.scored, {"checkpoint": tuned}, tmp_path)
    assert few.stats["n"] == benchmark.stats["n"] == 3
    assert accuracy(few, 4, "all") == benchmark.stats["scores"]["mask_acc"]
    larger = config.model_copy(update={"limit": 2})
    assert CurveConfig(arm="x", benchmark=larger, limit=3).scored.limit == 2
    assert CurveConfig(arm="x", benchmark=config).scored.limit is None


def test_without_seen_classes_there_is_one_part_and_without_masks_no_accuracy(
    config, tiny_clip, tmp_path
):
    tuned = train(tmp_path, tiny_clip)
    plain = config.model_copy(update={"seen": ()})
    points = run_stage(PHASE_CURVES, plain, {"checkpoint": tuned}, tmp_path)
    assert {row["part"] for row in rows_of(points)} == {"all"}
    moon = config.model_copy(update={"seen": ("moon",)})  # in no image
    points = run_stage(PHASE_CURVES, moon, {"checkpoint": tuned}, tmp_path)
    (row,) = [r for r in rows_of(points) if (r["step"], r["part"]) == (4, "seen")]
    assert row["gt_mask_accuracy"] is None and row["gt_masks"] == 0


def test_an_image_that_cannot_be_read_is_counted(config, benchmark, tiny_clip, tmp_path):
    folder = tmp_path / "benchmark"
    shutil.copytree(benchmark, folder)
    (folder / "images" / "3.png").write_bytes(b"no picture")
    tuned = train(tmp_path, tiny_clip)
    bad = config.model_copy(update={"root": folder, "max_bad_fraction": 0.5})
    points = run_stage(PHASE_CURVES, bad, {"checkpoint": tuned}, tmp_path)
    assert (points.stats["n"], points.stats["bad"]) == (8, 1)
    assert json.dumps(points.stats["reasons"]) == '{"not_an_image": 1}'
    strict = bad.model_copy(update={"max_bad_fraction": 0.0})
    with pytest.raises(OvsegError, match=r"1 of 8 items are bad.*3\.png: not_an_image"):
        run_stage(PHASE_CURVES, strict, {"checkpoint": tuned}, tmp_path / "strict")
