"""Pairs a second through a step of fine-tuning and of mask prompts, by precision, with memory.

    python -m benchmarks training

On a GPU it is ViT-L/14 with random weights at the paper's batch of 256, else the storybook's CLIP.
"""

from __future__ import annotations

import open_clip
import torch
from torch.nn import functional as F

from benchmarks.timing import seconds
from ovseg.config import FinetuneConfig
from ovseg.models.clip import load_clip
from ovseg.models.mask_prompts import MaskAdaptedCLIP
from ovseg.models.names import resolve_device
from ovseg.training.groups import method
from ovseg.training.trainer import Trainer

NOUNS = 1000


def main() -> None:
    """Print pairs a second, the ratio of the precisions, peak memory, and the first losses."""
    device = resolve_device("auto")
    on_gpu = device.startswith("cuda")
    batch = 256 if on_gpu else 32
    for trains in ("image_encoder", "mask_prompts"):
        took, losses = {}, {}
        for precision in ("fp32", "bf16"):
            torch.manual_seed(0)
            clip = _large(device) if on_gpu else load_clip("storybook", device=device)
            config = FinetuneConfig(trains=trains, precision=precision, batch_size=batch)
            method(trains).prepare(clip, config)
            nouns = F.normalize(torch.randn(NOUNS, clip.embed_dim), dim=-1).to(device)
            trainer = Trainer(clip, nouns, config=config, total_steps=100)
            pixels = torch.randn(batch, 3, clip.image_size, clip.image_size).to(device)
            masks = (torch.rand(batch, 1, 1) * clip.image_size).to(device)
            masks = torch.arange(clip.image_size, device=device)[None, None, :] < masks
            masks = masks.expand(batch, clip.image_size, clip.image_size)
            wanted = torch.randint(NOUNS, (batch,)).to(device)
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            took[precision] = seconds(
                lambda t=trainer, p=pixels, m=masks, w=wanted: t.step(p, m, w), runs=3
            )
            losses[precision] = [row[2] for row in trainer.log]
            memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
            print(f"  {trains} {precision}: {batch / took[precision]:8.1f} pairs/s"
                  + (f", peak {memory:.1f} GiB" if on_gpu else ""))  # fmt: skip
            del trainer, clip, pixels
            if on_gpu:
                torch.cuda.empty_cache()
        apart = max(abs(a - b) / a for a, b in zip(losses["fp32"], losses["bf16"], strict=True))
        print(f"    bf16 {took['fp32'] / took['bf16']:.1f} x fp32; losses of {len(losses['fp32'])}"
              f" steps at most {100 * apart:.2f} % apart")  # fmt: skip


def _large(device: str) -> MaskAdaptedCLIP:
    model = open_clip.create_model("ViT-L-14-quickgelu", pretrained=None).to(device)
    tokenizer = open_clip.get_tokenizer("ViT-L-14-quickgelu")
    return MaskAdaptedCLIP(model, tokenizer=tokenizer).to(device)
