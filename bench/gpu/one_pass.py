"""Naming in one pass per image: mask tokens of a ViT, mask pooling of a convolutional CLIP."""

from __future__ import annotations

import torch

from bench.gpu import made
from bench.gpu.results import Part, Values, count_flops
from bench.gpu.sizes import Sizes
from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import load_model
from ovseg.models.devices import autocast
from ovseg.models.regions.embedders import RegionEmbedder
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder, MaskTokenEmbedder


@torch.inference_mode()
def measure(part: Part, sizes: Sizes) -> None:
    """Measure images/s of both, in bf16."""
    pixels = made.image(0, *sizes.image)
    masks = made.masks(sizes.masks, *sizes.image, part.device)

    def rates(embedder: RegionEmbedder) -> Values:
        def call() -> object:
            return embedder.embed(pixels, masks, threshold=None)

        with autocast(part.device, "bf16"):
            return part.rates(call, 1, "images", seconds=sizes.seconds, flops=count_flops(call))

    def tokens(size: int) -> Values:
        return rates(MaskTokenEmbedder(made.clip(sizes, sizes.naming, part.device), size=size))

    def pooling() -> Values:
        architecture, size = sizes.pooling
        model = (
            load_model("storybook-conv", device=part.device)
            if architecture is None
            else made.convolutional_clip(architecture, part.device)
        )
        assert isinstance(model, ConvCLIP)
        return {**rates(MaskPoolingEmbedder(model, size=size)), "model": architecture}

    for size in sizes.token_sizes:
        part.measure(f"mask tokens of {sizes.naming} at {size}", lambda s=size: tokens(s))
    part.measure(f"mask pooling at {sizes.pooling[1]}", pooling)
