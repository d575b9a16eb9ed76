"""A step of training: ours in one and two threads, with open_clip's blocks, in parts, recomputed.

    python -m bench training_step

Uses ViT-L/14 with random weights on a GPU, else the storybook's CLIP at the demo's batch of 128.
They take turns from equal weights, so that their losses can be compared.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
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
from ovseg.training.clip import trainer as trainer_module
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


WHOLE = "open_clip's blocks"
ONE, TWO = "ours, one thread", "ours, two threads"
OTHERS: dict[str, dict[str, object]] = {
    "in 4 parts": {"gradient_accumulation_steps": 4},
    "recomputed": {"gradient_checkpointing": True},
}


def _compare(trains: str, device: str) -> list[Figure]:
    on_gpu = device.startswith("cuda")
    batch = 64 if on_gpu else 128
    ways = [WHOLE, ONE, *([] if on_gpu else [TWO]), *OTHERS]
    trainers = {what: _trainer(trains, batch, device, **OTHERS.get(what, {})) for what in ways}
    trainers[ONE]._other = None
    inputs = _inputs(trainers[ONE].model, batch, device)
    times: dict[str, list[float]] = {what: [] for what in ways}
    memory = dict.fromkeys(ways, 0.0)
    for _ in range(STEPS + 1):
        for what, trainer in trainers.items():
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            began = time.perf_counter()
            with _open_clips_own(trainer) if what == WHOLE else contextlib.nullcontext():
                trainer.step(*inputs)
            if on_gpu:
                torch.cuda.synchronize()
                memory[what] = torch.cuda.max_memory_allocated() / 2**30
            times[what].append(time.perf_counter() - began)
    took = {what: statistics.median(each[1:]) for what, each in times.items()}
    losses = {what: [row[2] for row in trainer.log] for what, trainer in trainers.items()}
    print(f"  {trains}, batch {batch}: {1000 * took[WHOLE]:.0f} ms by {WHOLE}")
    for what in ways[1:]:
        apart = max(abs(a - b) / a for a, b in zip(losses[WHOLE], losses[what], strict=True))
        room = f", peak {memory[what]:.1f} GiB for {memory[WHOLE]:.1f}" if on_gpu else ""
        print(f"    {what}: {1000 * took[what]:.0f} ms   ({took[WHOLE] / took[what]:.2f} x;"
              f" losses at most {apart:.0e} apart{room})")  # fmt: skip
    return [
        {
            "what": f"a step of {trains}, batch {batch}, {what}",
            "before": 1000 * took[WHOLE],
            "after": 1000 * took[what],
            "unit": "ms",
            "ratio": took[WHOLE] / took[what],
            "kind": "tolerance",
        }
        for what in ways[1 : -len(OTHERS)]
    ]


@contextlib.contextmanager
def _open_clips_own(trainer: Trainer) -> Iterator[None]:
    """The step as it was: open_clip's blocks, the whole batch at once, an optimizer not fused."""
    for group in trainer.optimizer.param_groups:
        group["fused"] = False
    with (
        mock.patch.object(prompted_tower, "takes_part", lambda block, x: False),
        mock.patch.object(trainer_module, "EmbeddedInParts", _Whole),
    ):
        yield


class _Whole:
    def __init__(self, embed: Any, pixels: torch.Tensor, masks: torch.Tensor, **_: object) -> None:
        self.embeddings = embed(pixels, masks)

    def backward(self) -> None:
        """Do nothing: the backward pass of the loss reaches everything."""


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
