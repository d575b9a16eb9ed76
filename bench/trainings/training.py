"""Pairs per second in a step of fine-tuning and of mask prompts, by precision, with memory.

    python -m bench training

Uses ViT-L/14 with random weights at the paper's batch of 256 on a GPU, else the storybook's CLIP.
"""

from __future__ import annotations

import open_clip
import torch
from torch.nn import functional as F

from bench.timing import seconds
from ovseg.config.training import FinetuneConfig
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device
from ovseg.training.clip.methods import method
from ovseg.training.clip.trainer import Trainer

NOUNS = 1000


def main() -> None:
    """Print pairs per second, the ratio of the precisions, peak memory, and how losses diverge."""
    device = resolve_device("auto")
    on_gpu = device.startswith("cuda")
    # float32 activations of 256 regions do not fit into 80 GiB
    cases = [("fp32", 64), ("bf16", 64), ("bf16", 256)] if on_gpu else [("fp32", 32), ("bf16", 32)]
    for trains in ("image_encoder", "mask_prompts"):
        rates: dict[str, float] = {}
        losses: dict[str, list[float]] = {}
        for precision, batch in cases:
            took, logged, memory = _steps(trains, precision, batch, device)
            if precision not in rates:
                rates[precision], losses[precision] = batch / took, logged
            room = f", peak {memory:.1f} GiB" if on_gpu else ""
            print(f"  {trains} {precision}, batch {batch}: {batch / took:8.1f} pairs/s{room}")
        apart = max(abs(a - b) / a for a, b in zip(losses["fp32"], losses["bf16"], strict=True))
        print(
            f"    bf16 {rates['bf16'] / rates['fp32']:.1f} x fp32; losses of"
            f" {len(losses['fp32'])} steps at most {100 * apart:.2f} % apart"
        )


def _steps(
    trains: str, precision: str, batch: int, device: str
) -> tuple[float, list[float], float]:
    """Return seconds per step, the losses, and the peak GPU memory in GiB."""
    torch.manual_seed(0)
    on_gpu = device.startswith("cuda")
    clip = _large(device) if on_gpu else load_clip("storybook", device=device)
    config = FinetuneConfig(trains=trains, precision=precision, batch_size=batch)
    method(trains).prepare(clip, config, [])
    nouns = F.normalize(torch.randn(NOUNS, clip.embed_dim), dim=-1).to(device)
    trainer = Trainer(clip, nouns, config=config, total_steps=100)
    size = clip.image_size
    pixels = torch.randn(batch, 3, size, size).to(device)
    edges = (torch.rand(batch, 1, 1) * size).to(device)
    masks = (torch.arange(size, device=device)[None, None] < edges).expand(batch, size, size)
    targets = torch.randint(NOUNS, (batch,)).to(device)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    took = seconds(lambda: trainer.step(pixels, masks, targets), runs=3)
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0
    return took, [row[2] for row in trainer.log], memory


def _large(device: str) -> MaskAdaptedCLIP:
    model = open_clip.create_model("ViT-L-14-quickgelu", pretrained=None).to(device)
    tokenizer = open_clip.get_tokenizer("ViT-L-14-quickgelu")
    return MaskAdaptedCLIP(model, tokenizer=tokenizer).to(device)
