"""Pairs per second from disk to a batch: mapped regions, streamed images, a JPEG of each crop.

    python -m bench training_input

The official implementation writes the crop of every pair as a JPEG, reads it in every epoch, and
resizes a random crop of it to CLIP's input; torch's `DataLoader` does that in its processes. Here
regions are read from one mapped file, or cut out of the images in every epoch. Images are generated
photographs' sizes, 480 x 640, with 4 pairs each; CLIP's input is 224 pixels.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ovseg.config.training import FinetuneConfig
from ovseg.data import masks
from ovseg.stages.threads import fixed_threads
from ovseg.training.clip.batches import batches, steps_per_epoch
from ovseg.training.clip.crops import crop_exact, draw_crop_boxes, seeded_generator
from ovseg.training.clip.mapped import MappedRegions
from ovseg.training.clip.pairs import ImagePairs
from ovseg.training.clip.regions import PairRegions, RegionCut
from ovseg.training.clip.streamed import StreamedRegions

IMAGES, PAIRS, HEIGHT, WIDTH, SIZE, BATCH = 64, 4, 480, 640, 224, 32
CUT = RegionCut(size=SIZE, mean=(0.48, 0.46, 0.41), std=(0.27, 0.26, 0.28))
RUNS = 3
Figure = dict[str, Any]


class CropFiles(Dataset[Tensor]):
    """The crops as JPEG files: decoded, randomly cropped, resized and normalized."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (CUT.mean, CUT.std))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.folder / f"{index}.jpg") as file:
            pixels = np.asarray(file.convert("RGB"))
        generator = seeded_generator(index)
        (box,) = draw_crop_boxes(1, size=SIZE, scale=(0.9, 1.0), generator=generator).tolist()
        crop = torch.tensor(crop_exact(pixels, (box[0], box[1], box[2], box[3]), SIZE))
        return (crop.permute(2, 0, 1).float() / 255 - self.mean) / self.std


def main() -> list[Figure]:
    """Print pairs per second of an epoch and their ratios; return the figures."""
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name, fixed_threads():
        root = Path(name)
        pairs = _generate(root)
        began = time.perf_counter()
        MappedRegions(pairs, CUT, folder=root / "regions")
        cut = time.perf_counter() - began
        began = time.perf_counter()
        kept = MappedRegions(pairs, CUT, folder=root / "regions")
        found = time.perf_counter() - began
        print(
            f"  {len(pairs)} regions of a second phase: cut again {cut:.2f} s,"
            f" found {found:.2f} s   ({cut / found:.0f} x)"
        )
        figures.append(_figure("regions of a second phase", cut, found, "s", "byte-equal"))
        crops = root / "crops"
        crops.mkdir()
        for row in range(len(pairs)):
            pixels = kept.regions([row]).pixels[0].numpy()
            Image.fromarray(pixels).save(crops / f"{row}.jpg", quality=90)
        for workers in (1, 2):
            rates = _rates(pairs, root, workers)
            first = rates["a JPEG of each crop"]
            for what, rate in rates.items():
                print(f"  {what:24s} {workers} workers {rate:8.0f} pairs/s {rate / first:5.2f} x")
            for what, kind in (("mapped", "byte-equal"), ("stream", "setting")):
                label = f"{what} regions against crop files, {workers} workers"
                figures.append(_figure(label, first, rates[what], "pairs/s", kind))
    return figures


def _rates(pairs: ImagePairs, root: Path, workers: int) -> dict[str, float]:
    """Return the median pairs per second of some epochs, taken in turn."""
    folder, count = root / "regions", len(pairs)
    config = FinetuneConfig(batch_size=BATCH, decode_workers=workers)
    files = DataLoader(
        CropFiles(root / "crops", count),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )
    stream = StreamedRegions(pairs, CUT, window=128, folder=folder, workers=workers)
    mapped = MappedRegions(pairs, CUT, folder=folder)
    with closing(stream):
        ways: dict[str, Callable[[int], Iterable[object]]] = {
            "a JPEG of each crop": lambda epoch: files,
            "mapped": lambda epoch: _epoch(mapped, config, epoch),
            "stream": lambda epoch: _epoch(stream, config, epoch),
        }
        taken: dict[str, list[float]] = {what: [] for what in ways}
        for epoch in range(RUNS + 1):  # the first starts the processes
            for what, batches_of in ways.items():
                began = time.perf_counter()
                for _ in batches_of(epoch):
                    pass
                taken[what].append(time.perf_counter() - began)
    return {what: count / statistics.median(times[1:]) for what, times in taken.items()}


def _epoch(regions: PairRegions, config: FinetuneConfig, epoch: int) -> Iterable[object]:
    steps = steps_per_epoch(len(regions), config.batch_size)
    of_epoch = range(epoch * steps, (epoch + 1) * steps)
    return batches(regions, config, steps=of_epoch, device=torch.device("cpu"))


def _generate(root: Path) -> ImagePairs:
    """Write JPEGs of smooth noise, and return pairs with ellipses for masks."""
    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    pairs = []
    for number in range(IMAGES):
        noise = generator.integers(0, 255, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
        path = root / f"{number}.jpg"
        image = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        image.save(path, quality=90)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        for _ in range(PAIRS):
            y, x = generator.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH)
            high, wide = generator.uniform(0.08, 0.2, 2) * (HEIGHT, WIDTH)
            mask = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1
            pairs.append(
                {
                    "image_path": path.name,
                    "image_sha256": sha256,
                    "mask_size": [HEIGHT, WIDTH],
                    "mask_counts": masks.encode(mask[None])[0],
                }
            )
    return ImagePairs(pa.Table.from_pylist(pairs), root)


def _figure(what: str, before: float, after: float, unit: str, kind: str) -> Figure:
    ratio = before / after if unit == "s" else after / before
    return {
        "what": what,
        "before": before,
        "after": after,
        "unit": unit,
        "ratio": ratio,
        "kind": kind,
    }


if __name__ == "__main__":
    main()
