"""SAM's mask generation through `transformers`, on small networks with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_sam import random_sam
from transformers import pipeline

from ovseg.models.preprocessing import InputSize
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.proposals.proposers import proposer_digest
from ovseg.models.proposals.sam import Generation, SamProposals, load_sam
from ovseg.storybook.scenes import draw_scene

FEW = Generation(points_per_side=3, predicted_iou=0.5, stability=0.5)


def write_random_sam(folder: Path, *, family: str = "sam", seed: int = 0) -> Path:
    """A network of random weights written into a folder, which `load_sam` reads."""
    network, processor = random_sam(family, seed=seed)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["sam", "sam2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_sam(tmp_path_factory.mktemp(request.param), family=request.param)


def asking(folder: Path, generation: Generation) -> SamProposals:
    loaded = load_sam(str(folder))
    processor = loaded._generate.image_processor
    return SamProposals(loaded.network, processor, digest="x", device="cpu", generation=generation)


def test_masks_are_those_of_the_pipeline(folder: Path) -> None:
    image = draw_scene(4, size=96).image
    network = asking(folder, FEW)
    assert isinstance(network, ProposalNetwork)
    (found,) = network.propose([image], size=InputSize(64, 128))
    masks, scores = found.masks, found.scores
    assert masks.shape[1:] == (96, 96) and 0 < len(masks) == len(scores)
    (resized,) = network.propose([image], output="resized", size=InputSize(64, 128))
    generate = pipeline(
        "mask-generation",
        model=network.network,
        image_processor=network._generate.image_processor,
        device="cpu",
    )
    shown = Image.fromarray(resized.image)
    found = generate(shown, points_per_crop=3, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    theirs = {np.asarray(mask).astype(bool).tobytes() for mask in found["masks"]}
    ours = {mask.bool().numpy().tobytes() for mask in resized.masks}
    assert ours == theirs
    assert (resized.scores[:-1] >= resized.scores[1:]).all()


def test_nothing_kept_is_no_proposal_and_tiny_images_pass(folder: Path) -> None:
    none = asking(folder, FEW._replace(predicted_iou=5.0))
    flat = np.full((1, 1, 3), 7, dtype=np.uint8)
    (found,) = none.propose([flat], size=InputSize(16, 32))
    assert found.masks.shape == (0, 1, 1) and found.scores.shape == (0,)


def test_the_same_seed_writes_the_same_network(folder: Path, tmp_path: Path) -> None:
    family = load_sam(str(folder)).network.config.model_type
    again = write_random_sam(tmp_path / "again", family=family)
    other = write_random_sam(tmp_path / "other", family=family, seed=1)
    digest = proposer_digest("sam", str(folder))
    assert digest == proposer_digest("sam", str(again)) != proposer_digest("sam", str(other))
    assert torch.is_tensor(next(load_sam(str(again)).network.parameters()))
