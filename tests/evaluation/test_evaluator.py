"""The benchmark stage: shards add up, resume, bad input with a reason, digests, tables."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from benchmark_rows import CLASSES, all_rows, read_confusion
from PIL import Image

from ovseg.config.scoring import ScoresConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.errors import OvsegError
from ovseg.evaluation import samples
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.counts import rank
from ovseg.evaluation.metrics import Confusion
from ovseg.evaluation.scores import SCORES
from ovseg.models.build import load_segmentor
from ovseg.stages.run import run_shard_together, run_stage, stage_folder
from ovseg.stages.schema import CLASS_SCORES, CONFUSION, GT_MASKS
from ovseg.stages.schema import SCORES as SCORE_ROWS


def test_any_number_of_shards_gives_the_same(config, tmp_path):
    runs = [
        run_stage(BENCHMARK, config.model_copy(update={"min_shards": n}), {}, tmp_path / str(n))
        for n in (1, 2, 6)
    ]
    assert [len(run.plan) for run in runs] == [1, 2, 6]
    for other in runs[1:]:
        assert other.stats == runs[0].stats
        for name in ("confusion.parquet", "gt_masks.parquet"):
            assert all_rows(other, name) == all_rows(runs[0], name)


def test_the_scores_are_those_of_the_segmentor(config, tmp_path):
    manifest = run_stage(BENCHMARK, config, {}, tmp_path)
    benchmark = load_benchmark("mini", config.root)
    segmentor = load_segmentor(config, benchmark.classes, clip=config.clip)
    total = Confusion(4, 255)
    right = masks = 0
    for sample in benchmark.samples:
        image, labels = np.array(Image.open(sample.image)), benchmark.labels(sample)
        total.update(labels, segmentor.segment(image).labels)
        for index in set(np.unique(labels)) - {255}:
            probabilities = segmentor.classify_masks(image, (labels == index)[None])[0]
            masks += 1
            right += int(probabilities.argmax() == index)
    assert np.array_equal(read_confusion(manifest).counts, total.counts)
    assert manifest.stats["masks"] == masks
    scores = manifest.stats["scores"]
    assert scores["mask_acc"] == pytest.approx(right / masks)
    hit = np.diag(total.counts)[:3].sum()
    assert scores["pacc"] == pytest.approx(hit / total.counts[:4].sum())
    assert manifest.stats["seen"] == ["house", "tree"]
    expected = {
        *("miou_union", "miou_gt", "fwiou", "macc", "pacc"),
        *("mask_acc", "mask_acc_top5", "mask_acc_class"),
        *("mask_acc_seen", "mask_acc_unseen", "mask_acc_harmonic"),
        *(f"miou_{kind}_{part}" for kind in ("union", "gt") for part in ("seen", "unseen")),
        *("miou_union_harmonic", "miou_gt_harmonic"),
        *("boundary_miou_union", "boundary_miou_gt", "miou_gt_small", "miou_gt_medium"),
    }
    assert set(scores) == expected
    assert all(0 <= value <= 1 for value in scores.values())


def test_the_inference_of_the_demo_counts_uncovered_pixels_as_missed(config, tmp_path):
    demo = config.model_copy(update={"inference": "best_mask", "mask_threshold": 0.5})
    manifest = run_stage(BENCHMARK, demo, {}, tmp_path)
    benchmark = load_benchmark("mini", config.root)
    segmentor = load_segmentor(demo, benchmark.classes, clip=config.clip)
    total, uncovered = Confusion(4, 255), 0
    for sample in benchmark.samples:
        labels = benchmark.labels(sample)
        found = segmentor.segment(np.array(Image.open(sample.image))).labels
        total.update(labels, found)
        uncovered += int(((found == 4) & (labels != 255)).sum())
    counts = read_confusion(manifest).counts
    assert np.array_equal(counts, total.counts)
    assert uncovered and counts[:4, 4].sum() == uncovered
    scored = manifest.stats["scores"]["pacc"]
    assert scored == pytest.approx(np.diag(counts)[:4].sum() / counts[:4].sum())
    assert stage_folder(BENCHMARK, config, {}, tmp_path)[0] != manifest.folder


def test_a_weight_of_seen_classes_needs_some(config, tmp_path):
    weighed = config.model_copy(update={"seen_weight": 0.2})
    assert run_stage(BENCHMARK, weighed, {}, tmp_path).stats["seen"] == ["house", "tree"]
    nobody = weighed.model_copy(update={"seen": ()})
    with pytest.raises(OvsegError, match="seen_weight needs to know which classes are seen"):
        run_stage(BENCHMARK, nobody, {}, tmp_path)


def test_schemas(config, tmp_path):
    manifest = run_stage(BENCHMARK, config, {}, tmp_path)
    for path in manifest.paths():
        assert pq.read_schema(path / "confusion.parquet").equals(CONFUSION, check_metadata=True)
        assert pq.read_schema(path / "gt_masks.parquet").equals(GT_MASKS, check_metadata=True)
    ignored = [row for row in all_rows(manifest, "confusion.parquet") if row["gt_class"] == 4]
    assert ignored  # K stands for ignored pixels
    pixels = sum(row["pixels"] for row in all_rows(manifest, "confusion.parquet"))
    assert pixels == sum((40 + index) * 56 for index in range(6))


def test_resume_computes_only_what_is_missing(config, tmp_path, monkeypatch):
    first = run_stage(BENCHMARK, config, {}, tmp_path)
    content = (first.folder / "manifest.json").read_bytes()
    (first.folder / "manifest.json").unlink()
    damaged = first.paths()[1] / "confusion.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    seen = []
    read = samples.read_sample
    monkeypatch.setattr(samples, "read_sample", lambda b, s: seen.append(s.image_id) or read(b, s))
    second = run_stage(BENCHMARK, config, {}, tmp_path)
    assert seen == [3, 4, 5]
    assert (second.folder / "manifest.json").read_bytes() == content


def test_bad_images_and_labels_are_counted(config, root, tmp_path):
    (root / "images" / "1.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(root / "labels" / "2.png")
    Image.fromarray(np.full((43, 56), 9, np.uint8)).save(root / "labels" / "3.png")
    (root / "labels" / "5.png").unlink()
    lenient = config.model_copy(update={"max_bad_fraction": 1.0})
    stats = run_stage(BENCHMARK, lenient, {}, tmp_path).stats
    assert (stats["n"], stats["bad"]) == (6, 4)
    assert stats["reasons"] == {
        "label 9 is none of the classes": 1,
        "label map of another size than the image": 1,
        "no label map": 1,
        "not_an_image": 1,
    }
    assert stats["first_bad"] == "1.png: not_an_image"
    with pytest.raises(OvsegError, match=r"4 of 6 items are bad.*1\.png: not_an_image"):
        run_stage(BENCHMARK, config, {}, tmp_path / "strict")


def test_nothing_but_bad_images_gives_no_score(config, root, tmp_path):
    for path in (root / "labels").iterdir():
        path.unlink()
    lenient = config.model_copy(update={"max_bad_fraction": 1.0})
    manifest = run_stage(BENCHMARK, lenient, {}, tmp_path)
    assert manifest.stats["scores"] == {} and manifest.rows == 0
    json.loads((manifest.folder / "manifest.json").read_text(), parse_constant=pytest.fail)


def test_a_set_of_which_nothing_counts_is_refused_before_a_model_is_loaded(config, root, tmp_path):
    for path in (root / "labels").iterdir():
        with Image.open(path) as label:
            Image.new("L", label.size, 255).save(path)
    nowhere = config.model_copy(update={"clip": "nowhere", "maskformer": "nowhere"})
    with pytest.raises(OvsegError, match=r"no pixel of \d+ label maps counts") as caught:
        run_stage(BENCHMARK, nowhere, {}, tmp_path / "run")
    assert "ovseg prepare --check" in str(caught.value) and "\n" not in str(caught.value)
    assert not list((tmp_path / "run").rglob("*.json"))


def test_the_digest_depends_on_contents(config, root, tmp_path, tiny_clip):
    def digest(changed=config):
        return stage_folder(BENCHMARK, changed, {}, tmp_path)[0].name

    first = digest()
    moved = root.rename(root.with_name("elsewhere"))
    assert digest(config.model_copy(update={"root": moved})) == first
    moved.rename(root)
    label = root / "labels" / "0.png"
    before = label.read_bytes()
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(label)
    assert digest() != first
    label.write_bytes(before)
    assert digest() == first
    (root / "classes.txt").write_text("house\ntree\nsea\nsun")
    assert digest() != first


def test_score_tables(config, tmp_path):
    benchmark = run_stage(BENCHMARK, config, {}, tmp_path)
    scores = run_stage(SCORES, ScoresConfig(arm="original"), {"benchmark": benchmark}, tmp_path)
    assert scores.stats["scores"] == pytest.approx(benchmark.stats["scores"])
    assert scores.stats["arm"] == "original" and scores.stats["images"] == 6
    rows = pq.read_table(scores.payload() / "scores.parquet")
    assert rows.schema.equals(SCORE_ROWS)
    assert (
        dict(zip(rows["metric"].to_pylist(), rows["value"].to_pylist())) == (scores.stats["scores"])
    )
    assert set(rows["benchmark_digest"].to_pylist()) == {benchmark.digest}
    classes = pq.read_table(scores.payload() / "class_scores.parquet")
    assert classes.schema.equals(CLASS_SCORES)
    assert classes["class_name"].to_pylist() == list(CLASSES)
    assert classes["seen"].to_pylist() == [True, True, False, False]
    iou = [value for value in classes["iou"].to_pylist() if value is not None]
    assert np.mean(iou) == pytest.approx(scores.stats["scores"]["miou_union"])
    assert classes["gt_mask_accuracy"].to_pylist()[3] is None  # no mask is a moon
    other = run_stage(SCORES, ScoresConfig(arm="both"), {"benchmark": benchmark}, tmp_path)
    assert other.digest != scores.digest


def test_rank():
    scores = np.array([0.1, 0.4, 0.4, 0.1], np.float32)
    assert [rank(scores, index) for index in range(4)] == [3, 1, 2, 4]


def test_models_scored_together_leave_the_bytes_of_each_alone(config, tmp_path):
    settings = [config, config.model_copy(update={"ensemble_weight": 0.2})]
    alone = [run_stage(BENCHMARK, each, {}, tmp_path / "alone") for each in settings]
    runs = []
    for each in settings:
        folder, _ = stage_folder(BENCHMARK, each, {}, tmp_path / "together")
        runs.append((each, {}, folder))
    counted: list[int] = []
    records = run_shard_together(BENCHMARK, runs, shard=0, progress=counted.append)
    assert [record.sha256 for record in records] == [each.shards[0].sha256 for each in alone]
    assert [record.stats for record in records] == [each.shards[0].stats for each in alone]
    assert sum(counted) == alone[0].plan.counts[0]  # images, once for both

    runs[0][2].joinpath(records[0].path, "confusion.parquet").write_bytes(b"")
    again = run_shard_together(BENCHMARK, runs, shard=0)
    assert again[0].seconds is not None and again[1].seconds is None  # only what was damaged
    assert again[0].sha256 == records[0].sha256
