"""Training of pixel embeddings: targets and loss against loops, what learns, where it starts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ovseg.config.registry import RECIPES
from ovseg.data.benchmarks.benchmark import load_benchmark, only_classes
from ovseg.errors import OvsegError
from ovseg.models.lseg.embedder import load_pixels
from ovseg.models.maskformer.load import save_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.training.segmentation.augmentation import SegmentationSample
from ovseg.training.segmentation.objectives import (
    NO_LABEL,
    OBJECTIVES,
    build_network,
    pixel_cross_entropy,
    pixel_labels,
)
from ovseg.training.segmentation.recipes import SegmentationConfig
from ovseg.training.segmentation.starting_weights import SHARED, start_from
from ovseg.training.segmentation.trainer import Continuation, train_segmentation
from tests.training.test_segmentation import CONFIG, NAMES, TEXT, TINY, _samples

PIXELS = CONFIG.model_copy(update={"head": "fpn", "steps": 25})


def test_every_head_has_an_objective() -> None:
    assert set(OBJECTIVES) == set(SegmentationConfig.model_fields["head"].annotation.__args__)
    assert {RECIPES[name].head for name in ("lseg", "compact-lseg")} == {"fpn"}


def test_labels_of_pixels_thin_out_and_unknown_ones_have_none() -> None:
    masks = np.zeros((3, 6, 8), dtype=bool)
    masks[0, :, :4], masks[1, :, 4:], masks[2, 2:4, 2:6] = True, True, True
    known = np.ones((6, 8), dtype=bool)
    known[5] = False
    sample = SegmentationSample(
        np.zeros((6, 8, 3), dtype=np.uint8), masks, np.array([4, 0, 7]), known
    )
    labels = pixel_labels([sample, sample])
    assert labels.shape == (2, 6, 8) and labels.dtype == torch.int64
    for y in range(6):
        for x in range(8):
            inside = 2 <= y < 4 and 2 <= x < 6  # the later mask has the pixel
            expected = NO_LABEL if y == 5 else 7 if inside else 4 if x < 4 else 0
            assert int(labels[0, y, x]) == expected
    assert torch.equal(pixel_labels([sample], stride=2)[0], labels[0, 1::2, 1::2])
    empty = SegmentationSample(sample.image, masks[:0], sample.labels[:0], known)
    assert (pixel_labels([empty]) == NO_LABEL).all()


def test_cross_entropy_is_the_mean_over_labelled_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, generator=generator)
    labels = torch.randint(0, 5, (2, 3, 4), generator=generator)
    labels[0, 0], labels[1, 2, 3] = NO_LABEL, NO_LABEL
    losses = [
        float(-logits[b, :, y, x].log_softmax(0)[labels[b, y, x]])
        for b in range(2)
        for y in range(3)
        for x in range(4)
        if labels[b, y, x] != NO_LABEL
    ]
    assert float(pixel_cross_entropy(logits, labels)) == pytest.approx(np.mean(losses), rel=1e-5)
    larger = pixel_cross_entropy(logits, labels.repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert torch.isfinite(larger) and float(larger) != pytest.approx(np.mean(losses), rel=1e-5)


def test_a_batch_without_a_label_costs_nothing_and_one_class_is_certain() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 2, 2), NO_LABEL))
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()
    alone = pixel_cross_entropy(logits[:, :1], torch.zeros(1, 2, 2, dtype=torch.int64))
    assert alone.item() == 0


def test_every_weight_learns_and_the_texts_do_not() -> None:
    for head in ("fpn", "dpt"):
        config = PIXELS.model_copy(update={"head": head})
        network, texts = build_network(config), TEXT.clone().requires_grad_()
        objective = OBJECTIVES[head](config, network, texts)
        total, terms = objective.loss(objective.forward(torch.randn(2, 3, 64, 64)), _samples())
        total.backward()
        assert set(terms) == set(objective.terms) == {"loss_ce"}
        assert texts.grad is None
        assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_few_steps_lower_the_loss_and_find_the_classes(tmp_path: Path) -> None:
    report = train_segmentation(PIXELS, _samples(), TEXT, NAMES, tmp_path)
    assert np.mean(report.losses[-5:]) < 0.5 * report.losses[0]
    assert report.log[0][-1] == pytest.approx(1 / 0.07)
    image, labels = _samples()[0].image, pixel_labels(_samples()[:1])[0].numpy()
    embedder = load_pixels(tmp_path)
    assert embedder.class_names == tuple(NAMES)
    found = embedder.embed(image).cosines(TEXT, (64, 64)).argmax(0).numpy()
    assert (found == labels).mean() > 0.8


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = PIXELS.model_copy(update={"steps": 4, "checkpoint_every": 2})
    whole = train_segmentation(config, _samples(), TEXT, NAMES, tmp_path / "whole")

    def stop(done: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    keep = Continuation(folder=tmp_path / "state", identity="x")
    with pytest.raises(KeyboardInterrupt):
        train_segmentation(
            config, _samples(), TEXT, NAMES, tmp_path / "cut", progress=stop, continuation=keep
        )
    again = train_segmentation(config, _samples(), TEXT, NAMES, tmp_path / "cut", continuation=keep)
    assert again.losses == whole.losses
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


# --------------------------------------------------------------------------------------
# Starting from a MaskFormer


@pytest.fixture(scope="module")
def maskformer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OpenVocabularyMaskFormer]:
    folder = tmp_path_factory.mktemp("maskformer")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = OpenVocabularyMaskFormer(TINY)
    save_maskformer(network, folder, inputs=CONFIG.inputs, class_names=NAMES, text_embeddings=TEXT)
    return folder, network


@pytest.mark.parametrize(("head", "whole"), [("queries", True), ("fpn", False), ("dpt", False)])
def test_a_start_gives_what_both_have(maskformer, head: str, whole: bool) -> None:
    folder, source = maskformer
    network = build_network(CONFIG.model_copy(update={"head": head}))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    taken = start_from(network, str(folder))
    given, after = source.state_dict(), network.state_dict()
    assert all(torch.equal(after[name], given[name]) for name in taken)
    assert all(torch.equal(after[name], before[name]) for name in set(after) - set(taken))
    assert set(taken) == {n for n in after if whole or n.startswith(SHARED)}


def test_a_start_of_other_dimensions_is_refused(maskformer) -> None:
    other = TINY.model_copy(update={"feature_dim": 64})
    network = build_network(PIXELS.model_copy(update={"architecture": other}))
    with pytest.raises(OvsegError, match="whose dimensions differ"):
        start_from(network, str(maskformer[0]))


# --------------------------------------------------------------------------------------
# Some classes of a folder


def test_only_named_classes_count(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    labels = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels" / "1.png")
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / "images" / "1.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "prompts.tsv").write_text("class_name\tprompt\na\tone\nb\ttwo\nc\tthree\n")
    whole = load_benchmark("prepared", tmp_path)
    some = only_classes(whole, ["c", "a"])
    assert some.classes == ("a", "c") and some.prompts == (("one", 0), ("three", 1))
    assert some.labels(some.samples[0]).tolist() == [[0, 255], [1, 255]]
    assert only_classes(whole, []) is whole
    with pytest.raises(OvsegError, match="has no class 'x'"):
        only_classes(whole, ["a", "x"])
