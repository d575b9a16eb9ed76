"""Changed argmaxes: the share of masks whose best text is another in bf16 than in fp32.

Random weights embed all masks alike, so that their share is larger than that of trained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from bench.gpu import made
from bench.gpu.results import Part, Values
from bench.gpu.sizes import Sizes
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import autocast
from ovseg.models.regions.embedders import CropEmbedder

Pictures = Sequence[tuple[np.ndarray, Tensor]]


def measure(part: Part, sizes: Sizes) -> None:
    """Compare both precisions with random and with the storybook's weights."""

    def random() -> tuple[MaskAdaptedCLIP, Pictures, Sequence[str]]:
        masks = made.masks(sizes.masks, *sizes.image, part.device)
        pictures = [(made.image(seed, *sizes.image), masks) for seed in range(4)]
        return made.clip(sizes, sizes.naming, part.device), pictures, made.NOUNS

    def storybook() -> tuple[MaskAdaptedCLIP, Pictures, Sequence[str]]:
        from ovseg.storybook.categories import CATEGORIES
        from ovseg.storybook.scenes import draw_scene
        from ovseg.storybook.world import scene_seeds

        scenes = [draw_scene(seed) for seed in scene_seeds("val", sizes.scenes)]
        pictures = [
            (each.image, torch.stack([torch.from_numpy(s.mask) for s in each.segments]))
            for each in scenes
        ]
        clip = load_clip("storybook", device=part.device)
        names = [category.name for category in CATEGORIES]
        return clip, [(image, masks.to(part.device)) for image, masks in pictures], names

    part.measure(f"{sizes.naming} of random weights", lambda: _compared(part, random))
    part.measure("storybook's CLIP", lambda: _compared(part, storybook))


@torch.inference_mode()
def _compared(
    part: Part, make: Callable[[], tuple[MaskAdaptedCLIP, Pictures, Sequence[str]]]
) -> Values:
    """Return the share of masks with another best text, and the smallest cosine of embeddings."""
    clip, pictures, names = make()
    texts = clip.encode_texts([f"a photo of a {name}" for name in names])
    embedder = CropEmbedder(clip)
    embedded = {}
    for precision in ("fp32", "bf16"):
        with autocast(part.device, precision):
            rows = [embedder.embed(image, masks, threshold=None)[0] for image, masks in pictures]
        embedded[precision] = torch.cat(rows).float()
    exact, rounded = embedded["fp32"], embedded["bf16"]
    best = [(rows @ texts.T).argmax(-1) for rows in (exact, rounded)]
    two = (exact @ texts.T).topk(2).values
    return {
        "masks": len(exact),
        "texts": len(names),
        "changed": float((best[0] != best[1]).float().mean()),
        "cosine_at_least": float((exact * rounded).sum(-1).min()),
        "median_margin": float((two[:, 0] - two[:, 1]).median()),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }
