"""Mask2Former through the loader of MaskFormers: masks, scores, classes, digest, segments."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

from ovseg.config.registry import SEGMENTS
from ovseg.models.maskformer.load import load_maskformer, maskformer_digest
from ovseg.models.maskformer.proposing import ClosedMaskFormer
from ovseg.models.preprocessing import InputSize, pad_batch
from ovseg.models.proposals.proposers import proposer
from ovseg.pretraining.mask2former import Mask2FormerRecipe, architecture

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RECIPE = Mask2FormerRecipe(width=32, queries=5, decoder_layers=2)


SIZE = InputSize(short_side=64, max_side=128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    torch.manual_seed(0)
    network = Mask2FormerForUniversalSegmentation(architecture(RECIPE, ["a", "b", "c"])).eval()
    network.save_pretrained(folder)
    return folder


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_masks_scores_and_classes_are_the_network_s(folder: Path) -> None:
    network = load_maskformer(str(folder))
    assert isinstance(network, ClosedMaskFormer)
    (found,) = network.propose([image(64, 96)], size=SIZE)
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(pad_batch([image(64, 96)], MEAN, STD))
    assert out.masks_queries_logits.shape[-2:] == (16, 24), "a quarter of the image"
    logits = torch.nn.functional.interpolate(
        out.masks_queries_logits, size=(64, 96), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(found.masks, logits[0].sigmoid())
    classes = out.class_queries_logits[0].softmax(-1)[:, :-1]
    torch.testing.assert_close(found.class_probabilities, classes)
    torch.testing.assert_close(found.scores, classes.amax(-1))
    assert found.class_embeddings is None


def test_semantic_segments_are_those_of_transformers(folder: Path) -> None:
    network = proposer("maskformer", str(folder), segments="semantic")
    (found,) = network.propose([image(64, 64)], size=SIZE)
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(pad_batch([image(64, 64)], MEAN, STD))
    (labels,) = Mask2FormerImageProcessor().post_process_semantic_segmentation(
        out, target_sizes=[(64, 64)]
    )
    masks = found.masks.bool()
    assert len(masks) == len(labels.unique())
    # theirs enlarges the masks twice, by way of 384 pixels
    agree = sum(
        float((mask & (labels == k)).sum()) for mask, k in zip(masks, labels.unique(), strict=True)
    )
    assert agree / labels.numel() > 0.97


@pytest.mark.parametrize("segments", sorted(SEGMENTS))
def test_an_image_does_not_depend_on_its_neighbours(folder: Path, segments: str) -> None:
    network = proposer("maskformer", str(folder), segments=segments)
    images = [image(64, 64), image(64, 60, seed=2), image(30, 70, seed=3)]
    for one, together in zip(images, network.propose(images, size=SIZE), strict=True):
        (alone,) = network.propose([one], size=SIZE)
        masks = together.masks
        assert masks.shape[1:] == one.shape[:2] and masks.shape == alone.masks.shape
        other = (masks - alone.masks).abs() > 1e-3
        assert other.sum() <= 0.01 * masks.numel()


def test_digest_follows_the_settings(folder: Path, tmp_path: Path) -> None:
    digest = maskformer_digest(str(folder))
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert maskformer_digest(str(tmp_path)) == digest
    config = json.loads((tmp_path / "config.json").read_text())
    config["no_object_weight"] = 0.2
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert maskformer_digest(str(tmp_path)) != digest
