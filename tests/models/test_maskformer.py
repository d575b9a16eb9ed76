"""Proposal networks: pixels as upstream prepares them, both kinds of network, loading, digests."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SWIN
from transformers import MaskFormerForInstanceSegmentation

from ovseg.errors import OvsegError
from ovseg.models.maskformer import load as maskformer
from ovseg.models.maskformer.load import load_maskformer, maskformer_digest, save_maskformer
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.preprocessing import (
    InputSettings,
    InputSize,
    mask_probabilities,
    pad_batch,
    resized_shape,
)
from ovseg.models.proposal import ProposalNetwork

TINY = SWIN.model_copy(
    update={"depths": (1, 1, 2, 1), "queries": 5, "decoder_layers": 3, "embedding_dim": 12}
)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _forget_loaded_networks() -> None:
    maskformer._load.cache_clear()


@pytest.fixture(scope="module")
def network() -> OpenVocabularyMaskFormer:
    torch.manual_seed(0)
    return OpenVocabularyMaskFormer(TINY).eval()


@pytest.fixture
def folder(network: OpenVocabularyMaskFormer, tmp_path: Path) -> Path:
    save_maskformer(
        network,
        tmp_path / "ours",
        inputs=InputSettings(short_side=64, max_side=128),
        class_names=["a", "b"],
        text_embeddings=torch.eye(12)[:2],
    )
    return tmp_path / "ours"


@pytest.fixture(scope="module")
def closed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised closed-vocabulary model as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("closed")
    torch.manual_seed(1)
    config = TINY.transformers_config()
    config.num_labels = 4
    MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    return folder


# --------------------------------------------------------------------------------------
# Pixels


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [
        ((480, 640), (640, 2560), (640, 853)),
        ((683, 512), (640, 2560), (854, 640)),
        ((100, 1000), (640, 2560), (256, 2560)),
        ((600, 1), (640, 2560), (2560, 4)),
        ((1, 1), (640, 2560), (640, 640)),
        ((160, 160), (160, 640), (160, 160)),
    ],
)
def test_resize_rule(size, sides, expected) -> None:
    assert resized_shape(*size, *sides) == expected


def test_padding_is_zero_after_normalising() -> None:
    images = [_image(33, 32), _image(20, 64, seed=1)]
    batch = pad_batch(images, MEAN, STD)
    assert batch.shape == (2, 3, 64, 64)
    expected = (images[0].transpose(2, 0, 1) - np.array(MEAN)[:, None, None]) / np.array(STD)[
        :, None, None
    ]
    np.testing.assert_allclose(batch[0, :, :33, :32].numpy(), expected, atol=1e-5)
    assert not batch[0, :, 33:].any() and not batch[0, :, :, 32:].any()
    assert not batch[1, :, 20:].any()


def test_mask_logits_go_through_the_padded_size() -> None:
    logits = torch.full((1, 8, 8), -9.0)
    logits[:, :4, :4] = 9.0
    inside = mask_probabilities(logits, (32, 32), (16, 16), (16, 16))
    assert inside.shape == (1, 16, 16)
    assert inside[0, :14, :14].min() > 0.9
    larger = mask_probabilities(logits, (32, 32), (16, 16), (40, 20))
    assert larger.shape == (1, 40, 20)


# --------------------------------------------------------------------------------------
# The class-embedding network


def test_forward_shapes_and_aux_of_every_layer(network: OpenVocabularyMaskFormer) -> None:
    pixels = pad_batch([_image(64, 96)], MEAN, STD)
    out = network(pixels, with_aux=True)
    assert out.class_embeddings.shape == (1, 5, 12)
    assert out.mask_logits.shape == (1, 5, 16, 24)
    assert len(out.aux) == TINY.decoder_layers - 1
    assert network(pixels).aux == []
    torch.testing.assert_close(network(pixels).mask_logits, out.mask_logits)


def test_last_state_is_that_of_transformers(network: OpenVocabularyMaskFormer) -> None:
    pixels = pad_batch([_image(64, 64)], MEAN, STD)
    reference = network.model(pixels)
    out = network(pixels)
    state = reference.transformer_decoder_last_hidden_state
    torch.testing.assert_close(network.class_embed(state), out.class_embeddings)
    masks = torch.einsum(
        "bqc,bchw->bqhw", network.mask_embed(state), reference.pixel_decoder_last_hidden_state
    )
    torch.testing.assert_close(masks, out.mask_logits)


def test_class_logits_are_scaled_cosines_with_the_non_object_last(
    network: OpenVocabularyMaskFormer,
) -> None:
    text = torch.eye(12)[:3] * 7.0
    logits = network.class_logits(torch.eye(12)[None, :4], text)
    assert logits.shape == (1, 4, 4)
    torch.testing.assert_close(logits[0, :3, :3], 100 * torch.eye(3))
    non_object = torch.nn.functional.normalize(network.non_object_embedding[0], dim=0)
    torch.testing.assert_close(logits[0, :, 3], 100 * non_object[:4])


# --------------------------------------------------------------------------------------
# Proposals


def test_proposals_of_an_open_network(folder: Path) -> None:
    network = load_maskformer(str(folder))
    assert isinstance(network, OpenMaskFormer) and isinstance(network, ProposalNetwork)
    images = [_image(50, 70), _image(90, 60, seed=2)]
    found = network.propose(images)
    assert [each.masks.shape for each in found] == [(5, 50, 70), (5, 90, 60)]
    assert all(each.masks.min() >= 0 and each.masks.max() <= 1 for each in found)
    scores = [each.scores for each in found]
    assert all(s.shape == (5,) and s.min() >= 0 and s.max() <= 1 for s in scores)
    assert all(each.class_embeddings.shape == (5, 12) for each in found)
    resized = network.propose(images, output="resized")
    assert all(each.masks.shape[1:] == each.image.shape[:2] for each in resized)
    assert resized[0].image.shape == (64, 90, 3)
    smaller = network.propose(images, output="resized", size=InputSize(short_side=32))
    assert smaller[0].image.shape == (32, 45, 3)


def test_scores_follow_the_vocabulary(folder: Path) -> None:
    network = load_maskformer(str(folder))
    assert isinstance(network, OpenMaskFormer)
    (default,) = network.propose([_image(64, 64)])
    embeddings = default.class_embeddings
    probability = network.class_logits(embeddings, network.text_embeddings).softmax(-1)
    torch.testing.assert_close(default.scores, 1 - probability[:, -1])
    torch.testing.assert_close(default.class_probabilities, probability[:, :-1])
    other = OpenMaskFormer(
        network.network,
        class_names=["like the first query"],
        text_embeddings=embeddings[:1],
        inputs=network.inputs,
        digest="other",
        device=network.device,
    )
    (found,) = other.propose([_image(64, 64)])
    assert found.scores[0] > 0.99  # a class exactly as the query says


def test_no_images_give_no_proposals(folder: Path, closed_folder: Path) -> None:
    for name in (folder, closed_folder):
        assert load_maskformer(str(name)).propose([]) == []


@pytest.mark.parametrize("which", ["folder", "closed_folder"])
def test_an_image_does_not_depend_on_its_neighbours(
    which: str, request: pytest.FixtureRequest
) -> None:
    """Padding takes part in attention, so images of different padded sizes are kept apart."""
    network = load_maskformer(str(request.getfixturevalue(which)))
    images = [
        _image(64, 64),
        _image(64, 96, seed=1),
        _image(64, 60, seed=2),
        _image(30, 40, seed=3),
    ]
    size = InputSize(64, 128)
    for image, together in zip(images, network.propose(images, size=size), strict=True):
        (alone,) = network.propose([image], size=size)
        torch.testing.assert_close(together.masks, alone.masks, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-5, rtol=1e-4)


def test_a_closed_network_scores_by_its_best_class(closed_folder: Path) -> None:
    network = load_maskformer(str(closed_folder))
    (found,) = network.propose([_image(64, 64)], size=InputSize(short_side=64))
    assert found.class_embeddings is None
    model = MaskFormerForInstanceSegmentation.from_pretrained(closed_folder).eval()
    with torch.no_grad():
        out = model(pad_batch([_image(64, 64)], MEAN, STD))
    expected = out.class_queries_logits[0].softmax(-1)[:, :-1].amax(-1)
    torch.testing.assert_close(found.scores, expected)
    assert found.masks.shape == (TINY.queries, 64, 64)


def test_a_checkpoint_brings_its_own_image_statistics(closed_folder: Path, tmp_path: Path) -> None:
    assert load_maskformer(str(closed_folder)).inputs.mean == MEAN
    other = tmp_path / "other"
    shutil.copytree(closed_folder, other)
    settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (other / "preprocessor_config.json").write_text(json.dumps(settings))
    inputs = load_maskformer(str(other)).inputs
    assert inputs.mean == (127.5, 127.5, 127.5) and inputs.std == (63.75, 63.75, 63.75)
    assert maskformer_digest(str(other)) != maskformer_digest(str(closed_folder))


# --------------------------------------------------------------------------------------
# Digests and errors


@pytest.mark.parametrize("name", ["storybook", "storybook-1"])
def test_a_shipped_network_has_the_digest_of_its_files(name: str) -> None:
    assert maskformer_digest(name) == load_maskformer(name).digest


@pytest.mark.parametrize("which", ["folder", "closed_folder"])
def test_digest_is_of_content(which: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(which)
    digest = maskformer_digest(str(source))
    assert len(digest) == 16
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    assert maskformer_digest(str(copy)) == digest

    state = load_file(copy / "model.safetensors")
    key = next(k for k in state if k.endswith("queries_embedder.weight"))
    state[key][0, 0] += 1e-3
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    assert maskformer_digest(str(copy)) != digest


def test_digest_covers_the_settings(folder: Path) -> None:
    digest = maskformer_digest(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config["inputs"]["short_side"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    assert maskformer_digest(str(folder)) != digest


def test_a_network_is_loaded_once(folder: Path) -> None:
    assert load_maskformer(str(folder)) is load_maskformer(str(folder))


def test_missing_or_broken_networks_are_one_line_errors(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    empty = tmp_path / "empty"
    empty.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "text_embeddings.safetensors").unlink()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    cases = {
        str(empty): "has no config.json",
        str(other): "is a bert model, not a MaskFormer",
        str(folder): "is not a complete MaskFormer",
        str(broken): "is not JSON",
        str(tmp_path / "nowhere"): "cannot be loaded",
    }
    for name, message in cases.items():
        with pytest.raises(OvsegError, match=message) as caught:
            load_maskformer(name)
        assert "\n" not in str(caught.value)


def test_missing_storybook_weights_name_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovseg.storybook.weights.WEIGHTS", tmp_path / "none")
    with pytest.raises(OvsegError, match=r"python -m flows\.pretrain maskformer --split 0"):
        load_maskformer("storybook")
    with pytest.raises(OvsegError, match=r"python -m flows\.pretrain maskformer --split 7"):
        load_maskformer("storybook-7")
