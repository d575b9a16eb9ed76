"""Pairs per second of fine-tuning in bf16, with activations kept and recomputed, and memory."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bench.gpu import made
from bench.gpu.results import Part, Values, count_flops
from bench.gpu.sizes import Sizes
from ovseg.config.training import FinetuneConfig
from ovseg.models.devices import autocast
from ovseg.training.clip.methods import method
from ovseg.training.clip.trainer import Trainer

NOUNS = 1000


def measure(part: Part, sizes: Sizes) -> None:
    """Measure each CLIP both ways."""
    for name in sizes.training:
        for recomputes in (False, True):
            how = "recomputed" if recomputes else "kept"
            part.measure(
                f"{name}, batch {sizes.batch}, activations {how}",
                lambda n=name, r=recomputes: _steps(part, sizes, n, recomputes=r),
            )


def _steps(part: Part, sizes: Sizes, name: str, *, recomputes: bool) -> Values:
    """Time steps; their operations are those of a forward pass three times, without recomputing."""
    model = made.clip(sizes, name, part.device)
    config = FinetuneConfig(
        trains="image_encoder",
        precision="bf16",
        batch_size=sizes.batch,
        gradient_checkpointing=recomputes,
    )
    generator, size = torch.Generator().manual_seed(0), model.image_size
    pixels = torch.randn(sizes.batch, 3, size, size, generator=generator).to(part.device)
    edges = torch.rand(sizes.batch, 1, 1, generator=generator) * size
    masks = (torch.arange(size)[None, None] < edges).expand(-1, size, size).to(part.device)
    nouns = F.normalize(torch.randn(NOUNS, model.embed_dim, generator=generator), dim=-1)
    targets = torch.randint(NOUNS, (sizes.batch,), generator=generator).to(part.device)
    with torch.no_grad(), autocast(part.device, "bf16"):
        forward = count_flops(lambda: model.encode_regions(pixels[:1])) * sizes.batch
    model.requires_grad_(True)
    method(config.trains).prepare(model, config, [])
    trainer = Trainer(model, nouns.to(part.device), config=config, total_steps=1000)
    values = part.rates(
        lambda: trainer.step(pixels, masks, targets),
        sizes.batch,
        "pairs",
        seconds=sizes.seconds,
        flops=3 * forward,
    )
    return {**values, "last_loss": trainer.log[-1][2]}
