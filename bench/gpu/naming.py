"""Exact naming: each of an image's masks cut out and embedded by itself, and what that takes.

CLIP's own part is timed alone, eager and compiled, in bf16; cutting and run-length coding apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from bench.gpu import made
from bench.gpu.results import Part, Values, count_flops
from bench.gpu.sizes import Sizes
from ovseg.data import masks as rle
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import autocast
from ovseg.models.regions.embedders import CropEmbedder
from ovseg.models.regions.embedding import cut_regions


@torch.inference_mode()
def measure(part: Part, sizes: Sizes) -> None:
    """Measure images/s of naming and of its parts."""
    device, (height, width) = part.device, sizes.image
    model = made.clip(sizes, sizes.naming, device)
    pixels = made.image(0, height, width)
    masks = made.masks(sizes.masks, height, width, device)
    (regions,) = cut_regions(model, pixels, [masks])
    with autocast(device, "bf16"):
        flops = count_flops(lambda: model.encode_regions(regions.pixels))

    def embed(images: int) -> Values:
        crops = regions.pixels.repeat(images, 1, 1, 1)
        with autocast(device, "bf16"):
            return part.rates(
                lambda: model.encode_regions(crops),
                images,
                "images",
                seconds=sizes.seconds,
                flops=images * flops,
            )

    def whole(precision: str) -> Values:
        embedder = CropEmbedder(model)
        with autocast(device, precision):
            return part.rates(
                lambda: embedder.embed(pixels, masks, threshold=None),
                1,
                "images",
                seconds=sizes.seconds,
            )

    part.measure("eager, crops of 1 image", lambda: embed(1))
    part.measure("eager, crops of 4 images", lambda: embed(4))
    part.measure("cutting and embedding, bf16", lambda: whole("bf16"))
    part.measure("cutting", lambda: _cutting(part, sizes, model, device))
    part.measure("cutting on the CPU", lambda: _cutting(part, sizes, model, "cpu"))
    part.measure("run-length coding", lambda: _coding(part, sizes))
    part.measure("cutting and embedding, fp32", lambda: whole("fp32"))
    # last, because a compiler may take minutes
    part.measure("compiled, crops of 1 image", lambda: _compiled(model, sizes, lambda: embed(1)))


def _cutting(part: Part, sizes: Sizes, model: MaskAdaptedCLIP, device: str) -> Values:
    pixels, masks = made.image(0, *sizes.image), made.masks(sizes.masks, *sizes.image, device)
    return part.rates(
        lambda: [*cut_regions(model, pixels, [masks])], 1, "images", seconds=sizes.seconds
    )


def _coding(part: Part, sizes: Sizes) -> Values:
    """Time the encoding and the decoding of an image's masks, on the CPU."""
    masks = made.masks(sizes.masks, *sizes.image, "cpu").numpy()
    counts = rle.encode(masks)
    timed = {
        "encoding": lambda: rle.encode(masks),
        "decoding": lambda: rle.decode(counts, sizes.image),
    }
    values = {}
    for what, call in timed.items():
        rates = part.rates(call, 1, "images", seconds=sizes.seconds / 2)
        values[f"{what} images/s"] = rates["images/s"]
    return values


def _compiled(model: MaskAdaptedCLIP, sizes: Sizes, figure: Callable[[], Values]) -> Values:
    """Take a figure with the image tower compiled."""
    visual = model.clip.visual
    visual.compile(backend=sizes.compiler, dynamic=False)
    try:
        return {**figure(), "backend": sizes.compiler}
    finally:
        visual._compiled_call_impl = None
        torch.compiler.reset()
