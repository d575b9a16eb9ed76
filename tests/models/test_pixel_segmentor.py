"""LSeg as a segmentor, a network's own classes in the two-stage one, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import COARSE
from torch.nn import functional as F

from ovseg.config.presets import load_preset
from ovseg.config.scoring import BenchmarkConfig, TuneConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.tuning import TUNING_COUNTS
from ovseg.models.build import load_segmentor, network_weights
from ovseg.models.clip.load import load_clip
from ovseg.models.lseg import segmentor as segmenting
from ovseg.models.lseg.embedder import load_pixels, save_pixel_network
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.lseg.segmentor import PixelSegmentor
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.preprocessing import InputSettings, InputSize

NAMES = ["house", "tree", "sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pixels")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PixelEmbeddingNetwork(COARSE)
    save_pixel_network(
        network,
        made,
        inputs=InputSettings(short_side=48, max_side=96),
        class_names=NAMES,
        text_embeddings=torch.zeros(3, 16),
    )
    return made


def texts_of(count: int, width: int = 16) -> torch.Tensor:
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(2))
    return F.normalize(rows, dim=1)


def image_of(height: int = 41, width: int = 55) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def segmentor_of(folder: Path, count: int, **options) -> PixelSegmentor:
    names = [f"class {n}" for n in range(count)]
    options = {"class_names": names, "texts": texts_of(count), **options}
    return PixelSegmentor(load_pixels(folder), **options)


@pytest.mark.parametrize("budget", [1, 20_000, 10**9])
def test_847_classes_in_parts_are_the_argmax_of_all_maps(
    folder: Path, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenting, "SCORE_BUDGET", budget)
    segmentor = segmentor_of(folder, 847)
    maps = segmentor.class_maps(image_of())
    assert maps.shape == (847, 41, 55)
    assert np.array_equal(segmentor.segment(image_of()).labels, maps.argmax(0).numpy())


def test_regions_of_a_segmentation_are_its_classes(folder: Path) -> None:
    found = segmentor_of(folder, 9).segment(image_of())
    present = np.unique(found.labels)
    assert found.masks.shape == (len(present), 41, 55) and found.labels.dtype == np.int64
    for mask, index in zip(found.masks, present):
        assert np.array_equal(mask.numpy() > 0, found.labels == index)
    assert found.probabilities.shape == (len(present), 9)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(len(present)))


def test_prompts_stand_for_their_classes(folder: Path) -> None:
    prompts = [("a", 1), ("b", 0), ("c", 1)]
    of_prompts = segmentor_of(folder, 3, class_names=["x", "y"], prompts=prompts)
    plain = segmentor_of(folder, 3)
    labels = plain.segment(image_of()).labels
    assert np.array_equal(of_prompts.segment(image_of()).labels, np.array([1, 0, 1])[labels])
    masks = np.ones((1, 41, 55), dtype=bool)
    p, q = plain.classify_masks(image_of(), masks), of_prompts.classify_masks(image_of(), masks)
    assert q[0].tolist() == [p[0, 1], max(p[0, 0], p[0, 2])]


def test_masks_are_named_by_the_mean_of_their_pixels(folder: Path) -> None:
    segmentor, image = segmentor_of(folder, 5), image_of(48, 64)  # the network's own size
    masks = np.zeros((3, 48, 64), dtype=bool)
    masks[0, 5:20, 7:30], masks[2, -1, -1] = True, True
    p = segmentor.classify_masks(image, masks)
    assert p.shape == (3, 5) and p.dtype == np.float32 and (p[1] == 0).all()
    cells = load_pixels(folder).embed(image).embeddings
    for index in (0, 2):
        mean = sum(cells[:, y // 4, x // 4] for y, x in zip(*np.nonzero(masks[index])))
        cosines = [float(F.cosine_similarity(mean, text, dim=0)) for text in texts_of(5)]
        expected = np.exp(np.array(cosines) / 0.07)
        assert p[index] == pytest.approx(expected / expected.sum(), rel=1e-3)
    assert segmentor.classify_masks(image, masks[:0]).shape == (0, 5)


def test_one_class_has_every_pixel_and_none_is_refused(folder: Path) -> None:
    assert (segmentor_of(folder, 1).segment(image_of(1, 1)).labels == [[0]]).all()
    with pytest.raises(OvsegError, match="no classes to segment: name at least one"):
        segmentor_of(folder, 0)
    with pytest.raises(OvsegError, match=r"16 numbers, CLIP's texts 8"):
        segmentor_of(folder, 2, texts=texts_of(2, 8))


# --------------------------------------------------------------------------------------
# By settings


@pytest.fixture(scope="module")
def base(tiny_clip: Path, tiny_maskformer: Path, folder: Path) -> BenchmarkConfig:
    return BenchmarkConfig(
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        pixels=str(folder),
        short_side=48,
        max_side=96,
        device="cpu",
    )


def test_settings_choose_pixels_alone_or_pooled_in_proposals(base: BenchmarkConfig) -> None:
    alone = base.model_copy(update={"segmentor": "pixels"})
    pooled = base.model_copy(update={"embedder": "pixel_pooling", "ensemble": "clip_only"})
    found = [load_segmentor(each, NAMES, clip=base.clip) for each in (alone, pooled)]
    assert isinstance(found[0], PixelSegmentor)
    for segmentor in found:
        labels = segmentor.segment(image_of()).labels
        assert labels.shape == (41, 55) and labels.max() <= 3
    assert set(network_weights(alone, clip=base.clip)) == {"texts", "clip", "pixels"}
    assert set(network_weights(pooled, clip=base.clip)) == {"texts", "clip", "maskformer", "pixels"}
    assert set(network_weights(base, clip=base.clip)) == {"texts", "clip", "maskformer"}


@pytest.mark.parametrize(
    "asked",
    [
        {"oracle": "gt_labels"},
        {"retrieval_weight": 0.3},
        {"relations": 0.2},
        {"seen_weight": 0.4},
        {"inference": "best_mask"},
    ],
)
def test_what_needs_proposals_is_refused_with_the_settings(asked: dict[str, object]) -> None:
    config = load_preset("storybook")
    (name,) = asked
    with pytest.raises(OvsegError, match=rf"no masks, but benchmarks.{name}.* needs them"):
        config.replaced(
            {
                "benchmarks.system": "lseg",
                **{f"benchmarks.{name}": value for name, value in asked.items()},
            }
        )
    kept = {f"benchmarks.{name}": value for name, value in asked.items()}
    assert config.replaced(kept).benchmarks[0].segmentor == "proposals"


def test_votes_that_nobody_hears_are_refused() -> None:
    settings = {"benchmarks.ensemble": "maskformer_only", "benchmarks.retrieval_weight": 0.3}
    with pytest.raises(OvsegError, match="retrieval_weight weights regions' votes"):
        load_preset("storybook").replaced(settings)


def test_what_pixels_lack_is_refused_before_anything_runs(base: BenchmarkConfig) -> None:
    alone = base.model_copy(update={"segmentor": "pixels"})
    with pytest.raises(OvsegError, match="no ensemble weight to search"):
        TUNING_COUNTS.plan(TuneConfig(benchmark=alone), {})
    with pytest.raises(OvsegError, match="train one with"):
        network_weights(alone.model_copy(update={"pixels": ""}), clip=base.clip)


def test_a_network_scores_its_own_classes_by_name(base: BenchmarkConfig) -> None:
    network = load_maskformer(base.maskformer)
    asked = ["nothing of the kind", network.class_names[-1]]
    own = base.model_copy(update={"vocabulary": "own", "ensemble": "maskformer_only"})
    segmentor = load_segmentor(own, asked, clip=base.clip)
    proposed = segmentor.propose(image_of())
    (found,) = network.propose([image_of()], output="resized", size=InputSize(48, 96))
    logits = load_clip(base.clip) and network.class_logits(
        found.class_embeddings, network.text_embeddings
    )
    expected = logits.softmax(-1)[:, len(network.class_names) - 1]
    torch.testing.assert_close(proposed.class_probabilities[:, 1], expected)
    assert (proposed.class_probabilities[:, 0] == 0).all()
    assert segmentor.own.unknown == ("nothing of the kind",)
    assert set(np.unique(segmentor.segment(image_of()).labels)) == {1}
    with pytest.raises(OvsegError, match=r"none of the network's .* is requested"):
        load_segmentor(own, ["nothing of the kind"], clip=base.clip)
