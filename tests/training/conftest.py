"""A small training set on disk: images with two coloured shapes, their pairs, a selection of them.

The CLIP beside it is a random ViT of three blocks whose vocabulary is cut to 100 merges.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from tiny import clip_config, cut_vocabulary, make_clip
from toy_phases import config

from ovseg.config.base import Config
from ovseg.data import masks
from ovseg.files.parquet_files import write_parquet
from ovseg.models.clip.save import save_clip
from ovseg.stages import schema
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.run import run_stage
from ovseg.stages.stage import Output, Stage
from ovseg.training.clip.stage import FINETUNE

NOUNS = {
    "moon": (240, 220, 90),
    "sea": (30, 60, 200),
    "fence": (150, 80, 20),
    "leaf": (30, 160, 40),
}


class Given(Stage[Config]):
    """A finished stage around files that are already there."""

    name = "given"

    def __init__(self, files: dict[str, pa.Table], suffix: str) -> None:
        self.files, self.suffix = files, suffix  # type: ignore[misc]

    def plan(self, config, inputs):
        return ShardPlan.single(repr(sorted(self.files)))

    def weights(self, config, inputs):
        # stands for the content: another table is another stage folder
        return {
            name: hashlib.sha256(str(t.to_pylist()).encode()).hexdigest()
            for name, t in self.files.items()
        }

    def write(self, config, inputs, target, *, shard, progress):
        rows = 0
        for name, table in self.files.items():
            path = target / name if name else target
            path.parent.mkdir(parents=True, exist_ok=True)
            write_parquet(table, path)
            rows += len(table)
        return Output(rows=rows)


@dataclass(frozen=True)
class TrainingSet:
    """Where the images lie and the two manifests training takes."""

    image_root: Path
    rows: list[dict]
    curated: Manifest
    table: Manifest


def draw(index: int) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """An image of 40 x 48 pixels and its nouns' masks: two discs far apart, and an angle."""
    random = np.random.default_rng(index)
    image = random.integers(90, 130, (40, 48, 3)).astype(np.uint8)
    y, x = np.mgrid[:40, :48]
    radius, right = random.integers(5, 9), random.integers(26, 38)
    discs = ((y - 9) ** 2 + (x - 10) ** 2 < radius**2) | ((y - 30) ** 2 + (x - right) ** 2 < 30)
    thick = random.integers(3, 8)
    angle = (y >= 38 - thick) & (x < 20 + index % 24) | (x >= 40) & (y > 10 + index % 16)
    first, second = random.permutation(list(NOUNS))[:2]
    shapes = [(str(first), discs), (str(second), angle)]
    for noun, mask in shapes:
        image[mask] = np.clip(random.normal(NOUNS[noun], 12, (mask.sum(), 3)), 0, 255)
    return image, shapes


@pytest.fixture
def training_set(tmp_path: Path) -> Callable[..., TrainingSet]:
    """Makes a training set of so many images with two pairs each, of which some are selected."""

    def make(
        images: int = 32,
        select: Callable[[dict], bool] = lambda row: True,
        pairs: int | None = None,
    ) -> TrainingSet:
        root = tmp_path / "images"
        root.mkdir(exist_ok=True)
        rows = []
        for index in range(images):
            image, shapes = draw(index)
            path = root / f"{index:04d}.png"
            Image.fromarray(image).save(path)
            for noun, mask in shapes:
                rows.append(
                    {
                        "pair_id": hashlib.sha256(f"{index}/{noun}".encode()).hexdigest()[:16],
                        "source": "mined",
                        "dataset": "test",
                        "round": 0,
                        "image_id": index,
                        "noun": noun,
                        "image_path": path.name,
                        "image_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                        "mask_size": list(mask.shape),
                        "mask_counts": masks.encode(mask[None])[0],
                        "kept": True,
                    }
                )
        chosen = [{"pair_id": row["pair_id"], "noun": row["noun"]} for row in rows if select(row)]
        return manifests(tmp_path, root, rows, chosen[:pairs])

    return make


@pytest.fixture
def given_manifests(tmp_path: Path) -> Callable[..., TrainingSet]:
    """Makes a training set of an image folder, pair rows, and rows of a selection."""
    return partial(manifests, tmp_path)


def manifests(tmp_path: Path, root: Path, rows: list[dict], chosen: list[dict]) -> TrainingSet:
    """Manifests of a pair table in two parts and of a selection from it."""
    half = len(rows) // 2
    table = Given(
        {
            "dataset=test/round=0/part-0.parquet": schema.rows_to_table(rows[:half], schema.PAIRS),
            "dataset=test/round=0/part-1.parquet": schema.rows_to_table(rows[half:], schema.PAIRS),
        },
        "",
    )
    curated = Given({"": schema.rows_to_table(chosen, schema.CURATED)}, ".parquet")
    runs = tmp_path / "given"
    return TrainingSet(
        image_root=root,
        rows=rows,
        curated=run_stage(curated, Config(), {}, runs / "curated"),
        table=run_stage(table, Config(), {}, runs / "table"),
    )


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random CLIP of 32-pixel regions, without mask prompts."""
    folder = tmp_path_factory.mktemp("clip")
    vocabulary = cut_vocabulary(folder / "bpe.txt.gz")
    with torch.random.fork_rng():
        model = make_clip(vocabulary, clip_config(quick_gelu=True, text={"context_length": 16}))
    return save_clip(model, folder / "model")


@pytest.fixture
def finetune(tiny_clip: Path, tmp_path: Path):
    """Runs the stage on a training set with a small configuration and overrides."""

    def run(data, *, root: str = "runs", checkpoint=None, progress=lambda n: None, **settings):
        inputs = {"curated": data.curated, "table": data.table}
        if checkpoint is not None:
            inputs["checkpoint"] = checkpoint
        return run_stage(
            FINETUNE,
            config(tiny_clip, data, **settings),
            inputs,
            tmp_path / root,
            progress=progress,
        )

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images of 64 x 48; the last has no labelled pixel."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("sky\nfield\nhouse\n")
    rng = np.random.default_rng(0)
    for number in range(5):
        labels = np.full((48, 64), 255 if number == 4 else 0, dtype=np.uint8)
        if number < 4:
            labels[24:] = 1
            labels[:4, :4] = 255
        image = rng.integers(0, 80, (48, 64, 3)) + 40 * (labels[..., None] == 1)
        Image.fromarray(image.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "labels" / f"{number}.png")
    return root
