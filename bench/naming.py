"""Masks named per second: masked crops, mask tokens, mask pooling; memory and precision.

    python -m bench naming

The storybook's CLIPs name the masks of its scenes. On a GPU, so do a ViT-L/14 at 224 and a
ConvNeXt-Large with random weights, for 100 masks of an image of 640 x 853 pixels, in fp32 and bf16.
Crops pass through CLIP once per mask, the others once per image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

from bench.timing import seconds
from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import create_clip, create_model, load_clip, load_model
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device
from ovseg.models.regions.embedders import CropEmbedder, RegionEmbedder
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder, MaskTokenEmbedder
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import SHIPPED_CLIPS
from ovseg.storybook.world import scene_seeds

Picture = tuple[np.ndarray, Tensor]
MASKS, HEIGHT, WIDTH = 100, 640, 853


def main() -> None:
    """Print masks per second and the ratios."""
    device = resolve_device("auto")
    scenes = [draw_scene(seed) for seed in scene_seeds("val", 8)]
    pictures = [
        (scene.image, torch.stack([torch.from_numpy(s.mask) for s in scene.segments]).to(device))
        for scene in scenes
    ]
    vit = load_clip("storybook", device=device)
    ways: dict[str, RegionEmbedder] = {
        "crops": CropEmbedder(vit),
        "mask tokens at 48": MaskTokenEmbedder(vit),
        "mask tokens at 192": MaskTokenEmbedder(vit, size=192),
    }
    if SHIPPED_CLIPS["storybook-conv"][0].is_dir():
        conv = load_model("storybook-conv", device=device)
        assert isinstance(conv, ConvCLIP)
        ways["mask pooling at 320"] = MaskPoolingEmbedder(conv, size=320)
    print("  storybook")
    _measure(ways, pictures, device, precisions=("fp32",))
    if not device.startswith("cuda"):
        return
    print(f"  random weights, {MASKS} masks of {WIDTH} x {HEIGHT} pixels")
    vit, conv = _large(device)
    picture = _random_picture(device)
    ways = {
        "ViT-L/14, crops at 224": CropEmbedder(vit),
        "ViT-L/14, mask tokens at 224": MaskTokenEmbedder(vit),
        "ViT-L/14, mask tokens at 448": MaskTokenEmbedder(vit, size=448),
        "ConvNeXt-L, mask pooling at 640": MaskPoolingEmbedder(conv, size=HEIGHT),
    }
    _measure(ways, [picture], device, precisions=("fp32", "bf16"))


def _large(device: str) -> tuple[MaskAdaptedCLIP, ConvCLIP]:
    """Build a ViT-L/14 and a ConvNeXt-Large of CLIP with random weights."""
    torch.manual_seed(0)
    vit = create_clip(_configuration("ViT-L-14-quickgelu")).to(device).eval()
    conv = create_model(_configuration("convnext_large_d")).to(device).eval()
    assert isinstance(conv, ConvCLIP)
    return vit, conv


def _configuration(architecture: str) -> dict[str, Any]:
    config: dict[str, Any] = open_clip.get_model_config(architecture)
    return config


def _random_picture(device: str) -> Picture:
    """Make an image of noise, with boxes of all sizes as masks."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    masks = torch.zeros(MASKS, HEIGHT, WIDTH, dtype=torch.bool)
    for mask in masks:
        high, wide = (int(side * generator.uniform(0.05, 0.6)) for side in (HEIGHT, WIDTH))
        top, left = generator.integers(0, HEIGHT - high), generator.integers(0, WIDTH - wide)
        mask[top : top + high, left : left + wide] = True
    return image, masks.to(device)


@torch.inference_mode()
def _measure(
    ways: dict[str, RegionEmbedder],
    pictures: Sequence[Picture],
    device: str,
    *,
    precisions: Sequence[str],
) -> None:
    """Print a line for each method and precision."""
    count = sum(len(masks) for _, masks in pictures)
    first: dict[str, float] = {}
    for name, embedder in ways.items():
        exact = None
        for precision in precisions:
            half = precision == "bf16"
            with torch.autocast("cuda", torch.bfloat16) if half else contextlib.nullcontext():
                if device.startswith("cuda"):
                    torch.cuda.reset_peak_memory_stats()
                took = seconds(lambda e=embedder: [e.embed(*p, threshold=None) for p in pictures])
                embeddings = embedder.embed(*pictures[0], threshold=None)[0].float()
            took_first = first.setdefault(precision, took)
            line = (
                f"    {name:32s} {precision} {count / took:9.0f} masks/s"
                f" {1000 * took / len(pictures):8.1f} ms/image {took_first / took:6.1f} x"
            )
            if device.startswith("cuda"):
                line += f"  peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
            if exact is not None:
                line += f"  cosine to fp32 at least {float((exact * embeddings).sum(-1).min()):.4f}"
            exact = embeddings if exact is None else exact
            print(line, flush=True)
