"""Training images of the compact CLIP: storybook scenes and loose crops with captions.

CLIP was trained on whole images with loose captions, so this training set has no masks: it holds
every scene with its five captions, and crops around some of its regions, background included, with
a few words each. All categories occur, seen and unseen ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.files.digests import code_digest
from ovseg.stages.workers import WorkerPool

CROPS_A_SCENE = 5
CAPTIONS_A_PICTURE = 5
_CHUNK = 250  # scenes per task of a worker process


@dataclass(frozen=True)
class CaptionedPictures:
    """Training images and their captions.

    Attributes:
        pictures_nhwc: `(N, S, S, 3)` uint8 RGB, memory-mapped; aspect ratios are not kept.
        captions: N lists of captions, none empty.
    """

    pictures_nhwc: NDArray[np.uint8]
    captions: list[list[str]]


def caption_scene(seed: int, *, size: int) -> tuple[NDArray[np.uint8], list[list[str]]]:
    """Render one scene as training images: the whole scene, then loose crops of some regions.

    Args:
        seed: of the scene.
        size: side of the images, pixels.

    size: side of the images, pixels. size, size, 3)` uint8 with P up to 1 + `CROPS_A_SCENE`, and P
        lists of captions.
    """
    from ovseg.storybook.captions import describe, describe_region, loose_crop
    from ovseg.storybook.scenes import draw_scene

    scene = draw_scene(seed)
    rng = np.random.default_rng([seed, 31])
    pictures = [_shrink(scene.image, size)]
    captions = [list(describe(scene, n=CAPTIONS_A_PICTURE))]
    # one region per category first, so that five stars leave room for the house
    first_of: dict[str, int] = {}
    for index in rng.permutation(len(scene.segments)).tolist():
        first_of.setdefault(scene.segments[index].category.name, index)
    for index in list(first_of.values())[:CROPS_A_SCENE]:
        pictures.append(_shrink(loose_crop(scene, index, rng), size))
        said = [describe_region(scene, index, rng) for _ in range(CAPTIONS_A_PICTURE)]
        captions.append(said)
    return np.stack(pictures), captions


def _shrink(image_hwc: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    resized = Image.fromarray(image_hwc).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8)


def _caption_chunk(seeds: range, size: int) -> tuple[NDArray[np.uint8], list[list[str]]]:
    done = [caption_scene(seed, size=size) for seed in seeds]
    return np.concatenate([item[0] for item in done]), [row for item in done for row in item[1]]


def render_pictures(
    seeds: range,
    cache_dir: Path,
    *,
    size: int,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CaptionedPictures:
    """Render the training images of scenes, or open them if an earlier call rendered them.

    Args:
        seeds: of the scenes.
        cache_dir: folder of the arrays, named by seeds, size and the drawing code.
        size: side of the images, pixels.
        workers: number of processes.
        progress: called with the number of scenes done and the total.

    Returns:
        The images, in the order of the seeds.
    """
    code = code_digest([__name__])
    stem = f"pictures-{seeds.start}-{len(seeds)}-{size}-{code[:12]}"
    pixels_path, captions_path = cache_dir / f"{stem}.npy", cache_dir / f"{stem}.json"
    if not captions_path.is_file():  # written last: its existence means both are complete
        cache_dir.mkdir(parents=True, exist_ok=True)
        chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
        pictures, captions = [], []
        with WorkerPool(workers) as pool:
            for chunk in pool.map(_caption_chunk, chunks, [size] * len(chunks)):
                pictures.append(chunk[0])
                captions.extend(chunk[1])
                if progress is not None:
                    progress(min(len(pictures) * _CHUNK, len(seeds)), len(seeds))
        np.save(pixels_path, np.concatenate(pictures))
        captions_path.write_text(json.dumps(captions), encoding="utf-8")
    return CaptionedPictures(
        pictures_nhwc=np.load(pixels_path, mmap_mode="r"),
        captions=json.loads(captions_path.read_text(encoding="utf-8")),
    )
