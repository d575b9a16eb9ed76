"""The compact convolutional CLIP: mosaics, locked texts, a run in miniature."""

import pytest
import torch

from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import load_clip, load_model
from ovseg.pretraining.conv_clip import ConvRecipe, start, tile_embeddings, train_conv_clip
from ovseg.pretraining.pictures import render_pictures
from ovseg.pretraining.tiles import TileBatches, mosaic
from ovseg.storybook.weights import SHIPPED_CLIPS
from ovseg.storybook.world import scene_seeds

RECIPE = ConvRecipe(scenes=6, steps=8, tiles=2, mosaics=2, warmup=2, tower="test_convnext")


@pytest.fixture(scope="module")
def teacher():
    return load_clip("storybook", prompt_depth=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    cache = tmp_path_factory.mktemp("pictures")
    return render_pictures(scene_seeds("pretrain", 6), cache, size=RECIPE.stored_size, workers=1)


@torch.no_grad()
def test_tiles_are_pooled_as_their_masks_would_be(teacher):
    torch.manual_seed(0)
    clip = start(teacher, RECIPE).eval()
    pictures = torch.randn(8, 3, 64, 64)
    mosaics = mosaic(pictures, 2)
    assert mosaics.shape == (2, 3, 128, 128)
    assert torch.equal(mosaics[1, :, :64, 64:], pictures[5])
    assert torch.equal(mosaics[0, :, 64:, :64], pictures[2])
    found = tile_embeddings(clip, mosaics, 2)
    for index in range(8):
        weights = torch.zeros(1, 4, 4)
        row, column = divmod(index % 4, 2)
        weights[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1
        expected = clip.pool_masks(clip.dense_features(mosaics[index // 4, None])[0], weights)[0]
        torch.testing.assert_close(found[index], expected, atol=1e-5, rtol=0)


def test_a_run_in_miniature_learns_leaves_the_texts_and_is_repeatable(teacher, data):
    ends = []
    for _ in range(2):
        torch.manual_seed(1)
        clip = start(teacher, RECIPE)
        losses = train_conv_clip(clip, teacher, data, recipe=RECIPE, seed=1)
        assert losses[-1] < losses[0]
        ends.append(clip.checkpoint_state())
    before = teacher.checkpoint_state()
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
        if not name.startswith("visual."):
            assert torch.equal(tensor, before[name]), name


def test_a_batch_has_the_targets_of_its_pictures(teacher, data):
    batches = TileBatches(data, teacher, batch=8, size=64, seed=0)
    pixels, wanted, texts, rows = batches.draw()
    assert pixels.shape == (8, 3, 64, 64) and wanted.shape == (8, teacher.embed_dim)
    assert len(texts) == int(rows.max()) + 1 and rows.shape == (8,)
    torch.testing.assert_close(wanted.norm(dim=1), torch.ones(8))


def test_what_ships_is_small_and_speaks_the_shipped_texts(teacher):
    clip = load_model("storybook-conv")
    assert isinstance(clip, ConvCLIP)
    folder, _ = SHIPPED_CLIPS["storybook-conv"]
    assert (folder / "model.safetensors").stat().st_size < 4 * 2**20
    assert (folder / "MODEL_CARD.md").is_file() and folder != SHIPPED_CLIPS["storybook"][0]
    with torch.no_grad():
        texts = ["a moon over a house", "grass"]
        torch.testing.assert_close(clip.encode_texts(texts), teacher.encode_texts(texts))
