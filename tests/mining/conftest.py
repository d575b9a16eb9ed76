"""A small source on disk and tiny models to mine it with: no shipped weights are needed.

Images are blocks of colour; the parser tags a dozen words by rule; MaskFormer and CLIP are random.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from PIL import Image
from tiny import SWIN, clip_config, cut_vocabulary, make_clip, save_network

from ovseg.config.data import ImagesConfig
from ovseg.config.mining import NounsConfig, PairingConfig, ProposalsConfig, TextsConfig
from ovseg.data.listing import LIST_IMAGES
from ovseg.mining.nouns.embeddings import TEXTS
from ovseg.mining.nouns.stage import NOUNS
from ovseg.mining.proposals.stage import PROPOSALS
from ovseg.models.clip.save import save_clip
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage

NOUN_WORDS = ["boat", "boats", "sea", "moon", "fence", "picket", "house", "front", "dog", "rug"]
CAPTIONS = [
    "A boat on the sea",
    "Two boats and a moon",
    "A picket fence in front of a house",
    "Red and blue",
    "The moon over the sea",
]


@dataclass(frozen=True)
class Tiny:
    """Folders of tiny models."""

    clip: str
    prompted_clip: str
    maskformer: str
    parser: str


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = cut_vocabulary(folder / "bpe_vocab.txt.gz")
    config = clip_config(embed_dim=12, vision={"layers": 2}, text={"context_length": 16})
    for name, depth in (("clip", 0), ("prompted_clip", 2)):
        save_clip(make_clip(vocabulary, config, prompt_depth=depth), folder / name)
    architecture = SWIN.model_copy(update={"embedding_dim": 12})
    save_network(architecture, folder / "maskformer", ["a", "b"], torch.eye(12)[:2])
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("attribute_ruler")
    ruler.add([[{}]], {"POS": "X"})
    ruler.add([[{"LOWER": {"IN": NOUN_WORDS}}]], {"POS": "NOUN"})
    nlp.to_disk(folder / "parser")
    return Tiny(
        clip=str(folder / "clip"),
        prompted_clip=str(folder / "prompted_clip"),
        maskformer=str(folder / "maskformer"),
        parser=str(folder / "parser"),
    )


@dataclass(frozen=True)
class Source:
    """A captions file, its images, and the configurations of every mining stage."""

    captions: Path
    image_root: Path
    images: ImagesConfig
    nouns: NounsConfig
    proposals: ProposalsConfig
    texts: TextsConfig
    pairing: PairingConfig


def picture(seed: int, *, height: int = 48, width: int = 64) -> np.ndarray:
    """Blocks of colour, `(height, width, 3)` uint8."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return blocks.repeat(height // 3, axis=0).repeat(width // 4, axis=1)


@pytest.fixture
def source(tiny: Tiny, tmp_path: Path) -> Source:
    """Ten images in shards of at most three; two captions an image, one image without."""
    root = tmp_path / "images"
    root.mkdir()
    images, annotations = [], []
    for number in range(10):
        name = f"{number:03d}.png"
        Image.fromarray(picture(number)).save(root / name)
        images.append({"id": 100 + number, "file_name": name})
        if number != 7:
            for half in range(2):
                text = CAPTIONS[(number + half) % len(CAPTIONS)]
                caption = {"id": 2 * number + half, "image_id": 100 + number, "caption": text}
                annotations.append(caption)
    captions = tmp_path / "captions.json"
    captions.write_text(json.dumps({"images": images, "annotations": annotations}))
    return Source(
        captions=captions,
        image_root=root,
        images=ImagesConfig(
            dataset="blocks", captions=captions, image_root=root, shard_size=3, min_shards=1
        ),
        nouns=NounsConfig(parser=tiny.parser),
        proposals=ProposalsConfig(
            maskformer=tiny.maskformer,
            short_side=48,
            max_side=96,
            image_root=root,
            device="cpu",
            batch_size=2,
        ),
        texts=TextsConfig(clip=tiny.clip, device="cpu"),
        pairing=PairingConfig(
            dataset="blocks", clip=tiny.clip, image_root=root, device="cpu", batch_size=8
        ),
    )


def mine_parts(source: Source, root: Path) -> dict[str, Manifest]:
    """Everything that pairing needs."""
    images = run_stage(LIST_IMAGES, source.images, {}, root)
    nouns = run_stage(NOUNS, source.nouns, {"images": images}, root)
    return {
        "images": images,
        "nouns": nouns,
        "proposals": run_stage(PROPOSALS, source.proposals, {"images": images}, root),
        "texts": run_stage(TEXTS, source.texts, {"nouns": nouns}, root),
    }


@pytest.fixture
def mine() -> Callable[[Source, Path], dict[str, Manifest]]:
    """The function above, for tests that change the source first."""
    return mine_parts


@pytest.fixture
def parts(source: Source, tmp_path: Path) -> dict[str, Manifest]:
    return mine_parts(source, tmp_path / "runs")
