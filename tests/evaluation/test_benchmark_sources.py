"""Benchmarks of other images, texts, proposals and checkpoints."""

from pathlib import Path

import numpy as np
import torch
from benchmark_rows import CLASSES, all_rows
from PIL import Image

from ovseg.config.registry import PROPOSERS
from ovseg.config.scoring import BenchmarkConfig
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.evaluation import benchmark as evaluator
from ovseg.evaluation import samples
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.evaluation.counts import mask_rows
from ovseg.evaluation.metrics import Confusion
from ovseg.models.build import load_segmentor
from ovseg.models.proposals.per_image import ImageProposals
from ovseg.stages.run import run_stage


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
