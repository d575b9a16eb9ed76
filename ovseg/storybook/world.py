"""Writes a part of the storybook to disk as a COCO dataset: images, captions, panoptic masks.

Run it with `python -m ovseg.storybook.world OUT_DIR PART N`; the layout of the folder is in the
docstring of `write_world`.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ovseg.errors import OvsegError
from ovseg.storybook.captions import describe
from ovseg.storybook.categories import CATEGORIES
from ovseg.storybook.scenes import Scene, draw_scene

SEED_RANGES: dict[str, range] = {
    "pretrain": range(1_000_000, 9_000_000),
    "mining": range(10_000_000, 19_000_000),
    "val": range(20_000_000, 29_000_000),
}
_STRIDE = 100_000  # scenes between two world seeds of a part
CAPTIONS_PER_IMAGE = 5

Drawn = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]
"""A scene's entries in COCO's files: image, captions, panoptic masks."""


def scene_seeds(part: str, n: int, *, seed: int = 0) -> range:
    """Return the scene seeds of a part of the world, which are also its image ids.

    Args:
        part: A key of SEED_RANGES.
        n: Number of scenes.
        seed: Moves the start inside the part by 100,000 scenes each.

    Raises:
        OvsegError: The part is unknown or does not have that many scenes.
    """
    if part not in SEED_RANGES:
        raise OvsegError(f"storybook part {part!r} is unknown: use one of {', '.join(SEED_RANGES)}")
    whole = SEED_RANGES[part]
    start = whole.start + seed * _STRIDE
    if n < 0 or seed < 0 or start + n > whole.stop:
        raise OvsegError(
            f"storybook part {part!r} does not have {n} scenes from world seed {seed}: "
            f"it holds {len(whole)} scenes, {_STRIDE} between seeds; use smaller numbers"
        )
    return range(start, start + n)


def write_world(
    out_dir: Path,
    *,
    part: str,
    n: int,
    size: int = 160,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    apply: Callable[[Callable[[int], Drawn], Iterable[int]], Iterable[Drawn]] = map,
) -> None:
    """Write n scenes of one part as a COCO dataset.

    The folder then holds `images/*.png`, `annotations/captions.json`, `annotations/panoptic.json`,
    `panoptic/*.png` (segment id = r + 256 g + 65536 b) and `semantic/*.png` (uint8 category id,
    0 = unlabeled, which does not occur). Image ids are the scenes' seeds, unique across parts.

    Args:
        out_dir: Folder to fill; made if missing.
        part: A key of SEED_RANGES: pretrain, mining or val.
        n: Number of scenes.
        size: Height and width in pixels.
        seed: Start within the part's scenes, see `scene_seeds`.
        progress: Called with 1 after each scene.
        apply: Applies a function to the seeds and returns the results in order, like `map`; one
            that uses several processes leaves the same files.

    Raises:
        OvsegError: The part is unknown or does not have that many scenes.
    """
    seeds = scene_seeds(part, n, seed=seed)
    for name in ("images", "annotations", "panoptic", "semantic"):
        (out_dir / name).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    write_one = functools.partial(_write_scene, out_dir=out_dir, size=size)
    for image, of_image, masks in apply(write_one, seeds):
        images.append(image)
        captions += of_image
        panoptic.append(masks)
        if progress is not None:
            progress(1)
    head: dict[str, Any] = {
        "info": {"description": f"ovseg storybook, {part}", "version": "1.0"},
        "licenses": [],
        "images": images,
    }
    _write_json(out_dir / "annotations" / "captions.json", {**head, "annotations": captions})
    _write_json(
        out_dir / "annotations" / "panoptic.json",
        {**head, "annotations": panoptic, "categories": coco_categories()},
    )


def coco_categories() -> list[dict[str, Any]]:
    """Return the `categories` list of a COCO panoptic file."""
    return [
        {
            "id": category.id,
            "name": category.name,
            "isthing": int(category.isthing),
            "supercategory": "thing" if category.isthing else "stuff",
            "color": list(category.color),
        }
        for category in CATEGORIES
    ]


def _write_scene(scene_seed: int, *, out_dir: Path, size: int) -> Drawn:
    """Draw a scene, write its image and masks, and return its entries in COCO's files."""
    scene = draw_scene(scene_seed, size=size)
    stem = f"{scene_seed:012d}"
    Image.fromarray(scene.image).save(out_dir / "images" / f"{stem}.png", compress_level=3)
    captions = [
        {"id": scene_seed * CAPTIONS_PER_IMAGE + number, "image_id": scene_seed, "caption": text}
        for number, text in enumerate(describe(scene, n=CAPTIONS_PER_IMAGE))
    ]
    image = {"id": scene_seed, "file_name": f"{stem}.png", "width": size, "height": size}
    return image, captions, _write_masks(scene, out_dir, stem)


def _write_masks(scene: Scene, out_dir: Path, stem: str) -> dict[str, Any]:
    """Write the panoptic and semantic PNG of a scene, and return its panoptic annotation."""
    ids = np.zeros((scene.size, scene.size), dtype=np.uint32)
    semantic = np.zeros((scene.size, scene.size), dtype=np.uint8)
    infos: list[dict[str, Any]] = []
    for segment in scene.segments:
        r, g, b = segment.category.color
        # The category's color makes the PNG viewable; the id keeps it unique.
        segment_id = ((r + 7 * segment.id) % 256) + 256 * g + 65536 * b
        while segment_id == 0 or any(info["id"] == segment_id for info in infos):
            segment_id = (segment_id + 1) % 256**3
        ids[segment.mask] = segment_id
        semantic[segment.mask] = segment.category.id
        rows = np.flatnonzero(segment.mask.any(axis=1))
        columns = np.flatnonzero(segment.mask.any(axis=0))
        x, y = int(columns[0]), int(rows[0])
        infos.append(
            {
                "id": segment_id,
                "category_id": segment.category.id,
                "area": int(segment.mask.sum()),
                "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                "iscrowd": 0,
            }
        )
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(out_dir / "panoptic" / f"{stem}.png")
    Image.fromarray(semantic).save(out_dir / "semantic" / f"{stem}.png")
    return {"image_id": scene.seed, "file_name": f"{stem}.png", "segments_info": infos}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdigit():
        raise SystemExit("usage: python -m ovseg.storybook.world OUT_DIR PART N")
    try:
        write_world(Path(sys.argv[1]), part=sys.argv[2], n=int(sys.argv[3]))
    except OvsegError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
