"""Cutting an image's masks out as regions, all at once and one after another.

    python -m bench crops

100 masks of 480 x 640 become squares of 224 pixels: ellipses of all sizes, and masks that fill the
image. The old way cuts, blends, normalizes and resizes one mask after another, and has glibc return
freed memory to the system, as stages did. Ten ellipses of each of 16 small images become squares of
64 pixels, all images at once and image after image.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ovseg.models.devices import resolve_device
from ovseg.models.regions.crops import crops_of_images, region_crops, tight_boxes
from ovseg.stages.threads import keep_memory

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MASKS, HEIGHT, WIDTH, SIZE = 100, 480, 640, 224
RUNS = 5


def main() -> list[dict[str, Any]]:
    """Print the time of 100 masks by both ways, the ratio, and the largest difference."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    figures = []
    device = resolve_device("auto")
    usual = torch.get_num_threads()
    cases = [
        (where, threads, name)
        for where, threads in [("cpu", 1), ("cpu", 2)] + [(device, usual)] * (device != "cpu")
        for name in MADE
    ]
    style = {"size": SIZE, "mean": MEAN, "std": STD}
    before = [_timed(_one_by_one, image, case) for case in cases]
    keep_memory()  # from now on, as stages do
    after = [_timed(lambda *of: region_crops(*of, **style).pixels, image, case) for case in cases]
    for (where, threads, name), (old, expected), (new, pixels) in zip(cases, before, after):
        on = f"CPU, {threads} thread{'s' * (threads > 1)}" if where == "cpu" else where
        difference = float((pixels - expected).abs().max())
        print(f"  {on}, {name}: one by one {1e3 * old:.0f} ms, at once {1e3 * new:.0f} ms"
              f" ({old / new:.1f} x), pixels differ by {difference:.1g}")  # fmt: skip
        what = f"{MASKS} masks of {HEIGHT} x {WIDTH} cut out ({name}; {on})"
        figures.append(_figure(what, old, new, equal=difference == 0))
    torch.set_num_threads(1)
    masks = _ellipses()
    old = _seconds(lambda: _boxes_by_any(masks))
    new = _seconds(lambda: tight_boxes(masks))
    print(f"  boxes of {MASKS} masks: by any {1e3 * old:.1f} ms, by amax {1e3 * new:.1f} ms"
          f"   ({old / new:.1f} x)")  # fmt: skip
    figures.append(_figure(f"boxes of {MASKS} masks (CPU, 1 thread)", old, new, equal=True))
    figures.append(_small_images())
    torch.set_num_threads(usual)
    return figures


def _small_images() -> dict[str, Any]:
    """Print the time of many small images, one after another and at once."""
    generator = np.random.default_rng(2)
    images = [generator.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(16)]
    masks = [_ellipses(10, 96, 128, seed=seed) for seed in range(16)]
    style = {"size": 64, "mean": MEAN, "std": STD}

    def one_by_one() -> list[torch.Tensor]:
        return [region_crops(*each, **style).pixels for each in zip(images, masks, strict=True)]

    def at_once() -> list[torch.Tensor]:
        return [regions.pixels for regions in crops_of_images(images, masks, **style)]

    equal = all(map(torch.equal, one_by_one(), at_once()))
    old, new = _seconds(one_by_one), _seconds(at_once)
    what = "10 masks of each of 16 images of 96 x 128 cut out (CPU, 1 thread)"
    print(f"  {what}: image by image {1e3 * old:.0f} ms, at once {1e3 * new:.0f} ms"
          f" ({old / new:.1f} x)")  # fmt: skip
    return _figure(what, old, new, equal=equal)


def _figure(what: str, before: float, after: float, *, equal: bool) -> dict[str, Any]:
    kind = "byte-equal" if equal else "tolerance"
    ratio = before / after
    times = {"before": 1e3 * before, "after": 1e3 * after, "unit": "ms"}
    return {"what": what, **times, "ratio": ratio, "kind": kind}


def _ellipses(
    count: int = MASKS, rows: int = HEIGHT, columns: int = WIDTH, *, seed: int = 0
) -> torch.Tensor:
    """Return ellipses whose sides are log-uniform from 20 pixels to the image's."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    masks = np.zeros((count, rows, columns), bool)
    for mask in masks:
        height, width = (int(20 * (side / 20) ** generator.random()) for side in (rows, columns))
        top = generator.integers(0, rows - height + 1) + height / 2
        left = generator.integers(0, columns - width + 1) + width / 2
        mask[:] = ((y - top) / height) ** 2 + ((x - left) / width) ** 2 <= 0.25
    return torch.from_numpy(masks)


def _full() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).random((MASKS, HEIGHT, WIDTH)) > 0.5)


MADE = {"ellipses": _ellipses, "full": _full}


def _timed(
    way: Callable[[np.ndarray, torch.Tensor], torch.Tensor],
    image: np.ndarray,
    case: tuple[str, int, str],
) -> tuple[float, torch.Tensor]:
    """Return the median seconds of one way, and the pixels on the CPU."""
    where, threads, name = case
    torch.set_num_threads(threads)
    masks = MADE[name]().to(where)
    pixels = way(image, masks).cpu()
    return _seconds(lambda: way(image, masks)), pixels


def _seconds(call: Any, *, runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _boxes_by_any(masks: torch.Tensor) -> torch.Tensor:
    columns, rows = masks.any(dim=1).int(), masks.any(dim=2).int()
    left, top = columns.argmax(dim=1), rows.argmax(dim=1)
    right = masks.shape[2] - columns.flip(1).argmax(dim=1)
    bottom = masks.shape[1] - rows.flip(1).argmax(dim=1)
    return torch.stack([left, top, right, bottom], dim=1)


def _one_by_one(image_hwc: np.ndarray, masks: torch.Tensor) -> torch.Tensor:
    """Cut out one mask after another, blank what is outside, normalize, resize."""
    image = torch.as_tensor(image_hwc).to(masks.device).permute(2, 0, 1).float()
    mean, std = (
        255 * torch.tensor(each, device=masks.device)[:, None, None] for each in (MEAN, STD)
    )
    valid = masks.flatten(1).any(dim=1)
    blend = masks[valid].float()
    boxes = _boxes_by_any(masks[valid]).tolist()
    pixels = image.new_zeros((len(boxes), 3, SIZE, SIZE))
    small = image.new_zeros((len(boxes), SIZE, SIZE))
    for index, (left, top, right, bottom) in enumerate(boxes):
        mask = blend[index, top:bottom, left:right]
        crop = image[:, top:bottom, left:right] * mask + (1 - mask) * mean
        crop = ((crop - mean) / std)[None]
        pixels[index] = F.interpolate(crop, size=(SIZE, SIZE), mode="bicubic")[0]
        small[index] = F.interpolate(mask[None, None], size=(SIZE, SIZE))[0, 0]
    return pixels


if __name__ == "__main__":
    main()
