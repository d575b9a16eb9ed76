"""The benchmark stage: shards add up, resume, bad input with a reason, digests, tables."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ovseg.config.registry import PROPOSERS
from ovseg.config.scoring import BenchmarkConfig, ScoresConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.errors import OvsegError
from ovseg.evaluation import benchmark as evaluator
from ovseg.evaluation import samples
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.counts import mask_rows, rank
from ovseg.evaluation.metrics import Confusion
from ovseg.evaluation.scores import SCORES
from ovseg.models.build import load_segmentor
from ovseg.models.proposals.per_image import ImageProposals
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.schema import CLASS_SCORES, CONFUSION, GT_MASKS
from ovseg.stages.schema import SCORES as SCORE_ROWS

CLASSES = ("house", "tree", "sea", "moon")


def read_confusion(benchmark: Manifest) -> Confusion:
    """The confusion matrix of all images of a benchmark's run."""
    k = len(benchmark.stats["class_names"])
    total = Confusion(k, ignore=-1)  # rows hold K for ignored pixels, whatever the label was
    for path in benchmark.paths():
        table = pq.read_table(path / "confusion.parquet")
        total.add_counts(
            *(table[name].to_numpy() for name in ("gt_class", "predicted_class", "pixels"))
        )
    return total


@pytest.fixture
def root(tmp_path):
    """Six small images with labels of four classes and some ignored pixels."""
    folder = tmp_path / "benchmark"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    rng = np.random.default_rng(0)
    for index in range(6):
        shape = (40 + index, 56)
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        labels = rng.choice([0, 1, 2, 255], (4, 4)).repeat(14, 0).repeat(14, 1)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels[: shape[0], : shape[1]].astype(np.uint8)).save(
            folder / "labels" / f"{index}.png"
        )
    return folder


@pytest.fixture
def config(root, tiny_clip, tiny_maskformer):
    return BenchmarkConfig(
        benchmark="mini",
        root=root,
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        short_side=64,
        max_side=128,
        templates="single",
        seen=("house", " Tree", "elsewhere"),
        device="cpu",
    )


def all_rows(manifest, name):
    return [row for path in manifest.paths() for row in pq.read_table(path / name).to_pylist()]


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
    with pytest.raises(OvsegError, match="seen_weight is that of the seen classes, and nothing"):
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


def test_a_checkpoint_goes_before_the_configured_clip(config, root, tmp_path, tiny_clip):
    from ovseg.models.clip.load import load_clip
    from ovseg.models.clip.save import save_clip

    class Checkpoint:
        content_digest = "0" * 64
        folder = tmp_path / "checkpoint"

        def payload(self):
            return self.folder

    model = load_clip(str(tiny_clip))
    model.mask_prompts.data.add_(1.0)
    save_clip(model, Checkpoint.folder)
    weights = BENCHMARK.weights(config, {})
    adapted = BENCHMARK.weights(config, {"checkpoint": Checkpoint()})
    assert weights["maskformer"] == adapted["maskformer"]
    assert weights["clip"] != adapted["clip"]
    nameless = config.model_copy(update={"clip": "nowhere"})
    manifest = run_stage(BENCHMARK, nameless, {"checkpoint": Checkpoint()}, tmp_path)
    assert manifest.weights == adapted
    assert manifest.stats["n"] == 6


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


def test_storybook_world_as_benchmark(tmp_path, tiny_clip, tiny_maskformer):
    from ovseg.config.data import WorldConfig
    from ovseg.data.storybook import WORLD
    from ovseg.storybook.categories import split

    world = run_stage(WORLD, WorldConfig(part="val", scenes=2, size=64), {}, tmp_path)
    config = BenchmarkConfig(
        root=world.payload(),
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        short_side=64,
        templates="single",
        seen=tuple(sorted(split(0)[0])),
        device="cpu",
    )
    manifest = run_stage(BENCHMARK, config, {}, tmp_path)
    pixels = sum(row["pixels"] for row in all_rows(manifest, "confusion.parquet"))
    assert pixels == 2 * 64 * 64 and manifest.stats["masks"] > 4
    folder: Path = manifest.folder
    assert folder.parent.name == "benchmarks"


def test_several_texts_may_stand_for_a_class(config, root, tiny_clip, tmp_path):
    """A pixel gets the class of its best text: as if the texts were classes and then merged."""
    texts = ("house", "tree", "sea", "moon", "cloud", "hill")
    of_class = {"house": "house", "tree": "house"} | dict.fromkeys(texts[2:], "rest")
    (root / "classes.txt").write_text("house\nrest\n")
    lines = [f"{of_class[text]}\t{text}\n" for text in texts]
    (root / "prompts.tsv").write_text("class_name\tprompt\n" + "".join(lines))
    for path in (root / "labels").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels == 2, 1, labels).astype(np.uint8)).save(path)
    benchmark = load_benchmark("mini", root)
    merged = evaluator.benchmark_segmentor(config, benchmark, clip=config.clip)
    plain = load_segmentor(config, texts, clip=config.clip)
    index = np.array([index for _, index in benchmark.prompts])
    assert merged.class_names == ("house", "rest") and len(merged.texts) == 6
    total = Confusion(2, 255)
    for sample in benchmark.samples:
        image, labels = samples.read_sample(benchmark, sample)
        expected = index[plain.segment(image).labels]
        assert (merged.segment(image).labels == expected).all()
        total.update(labels, expected)
        masks = np.stack([labels == 0, labels == 1, np.zeros_like(labels, bool)])
        of_texts = plain.classify_masks(image, masks)
        best = np.stack([of_texts[:, index == k].max(axis=1) for k in (0, 1)], axis=1)
        np.testing.assert_allclose(merged.classify_masks(image, masks), best)
    run = run_stage(BENCHMARK, config, {}, tmp_path / "runs")
    assert run.stats["class_names"] == ["house", "rest"]
    matrix = np.zeros((3, 3), np.int64)
    for row in all_rows(run, "confusion.parquet"):
        matrix[row["gt_class"], row["predicted_class"]] += row["pixels"]
    assert (
        matrix[:2, :2]
        == [[sum(e[2] for e in total.entries() if e[:2] == (g, p)) for p in (0, 1)] for g in (0, 1)]
    ).all()
    # other texts are another benchmark
    before = BENCHMARK.plan(config, {})
    (root / "prompts.tsv").write_text("class_name\tprompt\nhouse\thouse\nrest\tsea\n")
    assert BENCHMARK.plan(config, {}) != before


class Blind(ImageProposals):
    """Proposes nothing."""

    def masks_of(self, image):
        return torch.zeros(0, 4, 4), torch.zeros(0)


def test_any_source_of_proposals_is_scored(config, tmp_path, monkeypatch):
    monkeypatch.setitem(PROPOSERS, "nothing", lambda weights, device: Blind(digest="0" * 16))
    found = {}
    for proposing in (
        {"proposals": "slic"},
        {"proposals": "slic", "segments": "instance"},
        {"proposals": "nothing"},
        {"segments": "panoptic"},
        {"segments": "semantic"},
    ):
        setting = config.model_copy(update=proposing)
        found[tuple(proposing.values())] = run_stage(BENCHMARK, setting, {}, tmp_path)
    assert len({manifest.digest for manifest in found.values()}) == len(found)
    nothing = found["nothing",]
    assert nothing.stats["scores"]["pacc"] == 0, "without a proposal no pixel has a class"
    benchmark = load_benchmark("mini", config.root)
    segmentor = load_segmentor(
        config.model_copy(update={"proposals": "nothing"}), benchmark.classes, clip=config.clip
    )
    image, _ = samples.read_sample(benchmark, benchmark.samples[0])
    assert (segmentor.segment(image).labels == len(CLASSES)).all()
    assert segmentor.propose(image).class_probabilities is None
    merged = load_segmentor(
        config.model_copy(update={"segments": "semantic"}), benchmark.classes, clip=config.clip
    ).propose(image)
    assert merged.class_probabilities is not None and merged.masks.sum(0).max() <= 1


class Corner(ImageProposals):
    """Proposes the upper left quarter."""

    def masks_of(self, image):
        mask = torch.zeros(1, *image.shape[:2])
        mask[:, : image.shape[0] // 2, : image.shape[1] // 2] = 1
        return mask, torch.ones(1)


def test_pixels_under_no_mask_get_no_class(config, monkeypatch):
    monkeypatch.setitem(PROPOSERS, "corner", lambda weights, device: Corner(digest="1" * 16))
    setting = config.model_copy(update={"proposals": "corner"})
    segmentor = load_segmentor(setting, CLASSES, clip=config.clip)
    labels = segmentor.segment(np.full((64, 64, 3), 80, dtype=np.uint8)).labels
    assert (labels[:32, :32] < len(CLASSES)).all()
    assert (labels[32:] == len(CLASSES)).all() and (labels[:, 32:] == len(CLASSES)).all()


def test_a_mask_too_small_for_clip_is_no_mask_of_the_first_class():
    scores = np.array([[0, 0, 0], [0.2, 0.5, 0.3]], dtype=np.float32)
    masks = np.ones((2, 4, 4), dtype=bool)
    unseen, named = mask_rows(7, np.array([0, 2], dtype=np.int32), masks, scores)
    assert (unseen["predicted_class"], unseen["gt_rank"]) == (3, 3)
    assert (named["predicted_class"], named["gt_rank"]) == (1, 2)
