"""The compact CLIP's training: pictures, batches, the loss, the schedule, a few real steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ovseg.models.clip.load import create_clip, load_clip
from ovseg.pretraining.clip import Recipe, caption_loss, pretrain_clip, train_clip
from ovseg.pretraining.clip_batches import Batches
from ovseg.pretraining.clip_scores import region_accuracy
from ovseg.pretraining.pictures import CaptionedPictures, caption_scene, render_pictures
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import SHIPPED_CLIPS
from ovseg.storybook.world import scene_seeds

TINY = Recipe(scenes=6, steps=3, batch=8, warmup=1, eval_scenes=4, image_size=16, merges=100)


def noisy_data(count: int = 20) -> CaptionedPictures:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    captions = [[f"a thing {index % 5}", "to the left of it"] for index in range(count)]
    return CaptionedPictures(pictures_nhwc=pictures, captions=captions)


def tiny_model():
    torch.manual_seed(0)
    config = TINY.model_cfg(49408)
    config["vision_cfg"].update(layers=1, width=32)
    config["text_cfg"].update(layers=1, width=32)
    return create_clip(config)


def test_a_scene_gives_its_whole_picture_first_and_crops_with_words_for_them():
    pictures, captions = caption_scene(1_000_003, size=40)
    assert pictures.shape == (len(captions), 40, 40, 3) and pictures.dtype == np.uint8
    assert 2 <= len(captions) <= 6 and all(len(c) == 5 for c in captions)
    assert all(caption.endswith(".") for caption in captions[0])
    again, said = caption_scene(1_000_003, size=40)
    assert np.array_equal(again, pictures) and said == captions


def test_pictures_are_rendered_once(tmp_path: Path):
    first = render_pictures(range(1_000_000, 1_000_004), tmp_path, size=32, workers=1)
    calls: list[int] = []
    again = render_pictures(
        range(1_000_000, 1_000_004),
        tmp_path,
        size=32,
        progress=lambda done, total: calls.append(done),
    )
    assert not calls
    assert np.array_equal(first.pictures_nhwc, again.pictures_nhwc)
    assert first.captions == again.captions and len(first.captions) == len(first.pictures_nhwc)


def test_batches_are_seeded_and_every_picture_comes_once_an_epoch():
    model = tiny_model()
    data = noisy_data(16)
    one, other = (Batches(data, model, batch=8, seed=3) for _ in range(2))
    for _ in range(2):
        for a, b in zip(one.draw(), other.draw()):
            assert torch.equal(a, b)
    counted = Batches(data, model, batch=8, seed=3)
    order = []
    for _ in range(2):
        counted.draw()
        order.append(len(counted.order))
    assert order == [8, 0]
    pixels, tokens, rows = one.draw()
    assert pixels.shape == (8, 3, 16, 16) and rows.shape == (8,)
    assert len(tokens) == len(tokens.unique(dim=0)) == int(rows.max()) + 1


def test_pictures_whose_caption_names_a_side_are_never_flipped():
    line = np.arange(0, 240, 10, dtype=np.uint8)
    ramp = np.broadcast_to(line[None, None, :, None], (64, 24, 24, 3))
    data = CaptionedPictures(pictures_nhwc=ramp, captions=[["a boat to the left of it"]] * 64)
    pixels, _, _ = Batches(data, tiny_model(), batch=64, seed=0).draw()
    assert (pixels[..., -1] > pixels[..., 0]).all()
    data = CaptionedPictures(pictures_nhwc=ramp, captions=[["a boat"]] * 64)
    pixels, _, _ = Batches(data, tiny_model(), batch=64, seed=0).draw()
    flipped = (pixels[..., -1] < pixels[..., 0]).all(dim=1).all(dim=1).float().mean()
    assert 0.3 < flipped < 0.7


def test_the_loss_is_clips_own_without_repeats_and_knows_no_false_negatives():
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(6, 4, generator=generator), dim=-1)
    texts = F.normalize(torch.randn(6, 4, generator=generator), dim=-1)
    rows = torch.arange(6)
    logits = 10 * images @ texts.T
    own = (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2
    torch.testing.assert_close(caption_loss(images, texts, rows, torch.tensor(10.0)), own)
    shared = texts[:1].expand(6, -1)
    same = caption_loss(shared, texts[:1], torch.zeros(6, dtype=torch.long), torch.tensor(100.0))
    assert float(same) == pytest.approx(np.log(6) / 2)  # nothing tells equal pictures apart


def test_fitting_learns_and_is_deterministic():
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240]], np.uint8)
    pictures = np.broadcast_to(colours[:, None, None], (4, 24, 24, 3))
    captions = [["red"], ["green"], ["blue"], ["white"]]
    data = CaptionedPictures(pictures_nhwc=pictures, captions=captions)
    recipe = Recipe(steps=30, batch=4, warmup=2, image_size=16, peak_rate=3e-3)
    first, again = (train_clip(tiny_model(), data, recipe=recipe, seed=0) for _ in range(2))
    assert first == again
    assert first[0] > 1.0 and np.mean(first[-3:]) < 0.3


def test_a_whole_run_leaves_a_loadable_folder_and_a_card(tmp_path: Path):
    metrics = pretrain_clip(
        tmp_path / "clip",
        cache_dir=tmp_path / "work",
        recipe=TINY,
        log=lambda line: None,
    )
    assert 0 <= metrics["masked/all"] <= 1 and "unmasked/unseen" in metrics
    assert load_clip(str(tmp_path / "clip")).image_size == 16
    card = (tmp_path / "clip" / "MODEL_CARD.md").read_text()
    assert "python -m flows.pretrain clip" in card and "unmasked" in card


def test_the_shipped_model_knows_loose_crops_and_is_worse_on_masked_ones():
    files = [file for file in SHIPPED_CLIPS["storybook"][0].iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 7_000_000
    assert not [file for file in files if file.suffix in (".pt", ".pth", ".pkl", ".bin")]
    model = load_clip("storybook")
    assert model.prompt_depth == 0
    scenes = [draw_scene(seed) for seed in scene_seeds("val", 40)]
    loose = region_accuracy(model, scenes, region="box")
    masked = region_accuracy(model, scenes, region="mean")
    assert loose["all"] > 0.6
    assert 0.4 < masked["all"] < loose["all"] - 0.05
