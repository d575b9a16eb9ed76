"""A step of training with blocks that copy less, with open_clip's own, in parts, recomputed.

    python -m bench training_step

Uses ViT-L/14 with random weights on a GPU, else the storybook's CLIP at the demo's batch of 128.
The first two take turns from equal weights, so that their losses can be compared to the last bit.
"""

from __future__ import annotations

import statistics
import time
from typing import Any
from unittest import mock

import open_clip
import torch
from torch.nn import functional as F

from ovseg.config.training import FinetuneConfig
from ovseg.models.clip import prompted_tower
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device
from ovseg.stages.threads import fixed_threads
from ovseg.training.clip.methods import method
from ovseg.training.clip.trainer import Trainer

NOUNS, STEPS = 200, 6
Figure = dict[str, Any]


def main() -> list[Figure]:
    """Print milliseconds per step, the ratios and peak memory; return the figures."""
    device = resolve_device("auto")
    figures: list[Figure] = []
    with fixed_threads():
        for trains in ("image_encoder", "mask_prompts"):
            figures += _compare(trains, device)
    return figures


def _compare(trains: str, device: str) -> list[Figure]:
    batch = 64 if device.startswith("cuda") else 128
    plain = mock.patch.object(prompted_tower, "takes_part", lambda block, x: False)
    whole = mock.patch.object(prompted_tower, "is_frozen", lambda module: False)
    ways: dict[str, dict[str, object]] = {
        "open_clip's blocks": {},
        "blocks that copy less": {},
        "in 4 parts": {"gradient_accumulation_steps": 4},
        "recomputed": {"gradient_checkpointing": True},
    }
    trainers = {what: _trainer(trains, batch, device, **how) for what, how in ways.items()}
    inputs = _inputs(trainers["in 4 parts"].model, batch, device)
    times: dict[str, list[float]] = {what: [] for what in ways}
    memory = dict.fromkeys(ways, 0.0)
    for _ in range(STEPS + 1):
        for what, trainer in trainers.items():
            if device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            if what == "open_clip's blocks":
                with plain, whole:
                    trainer.step(*inputs)
            else:
                trainer.step(*inputs)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
                memory[what] = torch.cuda.max_memory_allocated() / 2**30
            times[what].append(time.perf_counter() - began)
    took = {what: statistics.median(each[1:]) for what, each in times.items()}
    losses = {what: [row[2] for row in trainer.log] for what, trainer in trainers.items()}
    first, second, *others = ways
    equal = losses[first] == losses[second]
    print(f"  {trains}, batch {batch}: {1000 * took[first]:.0f} ms by {first},"
          f" {1000 * took[second]:.0f} ms by {second}   ({took[first] / took[second]:.2f} x;"
          f" {STEPS + 1} losses {'equal to the last bit' if equal else 'differ'})")  # fmt: skip
    for what in others:
        apart = max(abs(a - b) / a for a, b in zip(losses[second], losses[what], strict=True))
        room = f", peak {memory[what]:.1f} GiB for {memory[second]:.1f}" if memory[what] else ""
        print(f"    {what}: {took[what] / took[second]:.2f} x the time, losses at most {apart:.0e}"
              f" apart{room}")  # fmt: skip
    figure = {
        "what": f"a step of {trains}, batch {batch}",
        "before": 1000 * took[first],
        "after": 1000 * took[second],
        "unit": "ms",
        "ratio": took[first] / took[second],
        "kind": "byte-equal" if equal else "tolerance",
    }
    return [figure]


def _trainer(trains: str, batch: int, device: str, **how: object) -> Trainer:
    torch.manual_seed(0)
    clip = _large(device) if device.startswith("cuda") else load_clip("storybook", device=device)
    settings = {
        "trains": trains,
        "batch_size": batch,
        "prompt_depth": 1,
        "loss": "distinct",
        "precision": "bf16" if device.startswith("cuda") else "fp32",
        **how,
    }
    config = FinetuneConfig(**settings)
    method(trains).prepare(clip, config, [])
    nouns = F.normalize(torch.randn(NOUNS, clip.embed_dim), dim=-1).to(device)
    return Trainer(clip, nouns, config=config, total_steps=100)


def _inputs(
    clip: MaskAdaptedCLIP, batch: int, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator, size = torch.Generator().manual_seed(0), clip.image_size
    pixels = torch.randn(batch, 3, size, size, generator=generator)
    edges = torch.rand(batch, 1, 1, generator=generator) * size
    masks = (torch.arange(size)[None, None] < edges).expand(batch, size, size)
    nouns = torch.randint(NOUNS, (batch,), generator=generator)
    return pixels.to(device), masks.to(device), nouns.to(device)


def _large(device: str) -> MaskAdaptedCLIP:
    model = open_clip.create_model("ViT-L-14-quickgelu", pretrained=None).to(device)
    tokenizer = open_clip.get_tokenizer("ViT-L-14-quickgelu")
    return MaskAdaptedCLIP(model, tokenizer=tokenizer).to(device)


if __name__ == "__main__":
    main()
