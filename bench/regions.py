"""Regions per second through the mask-adapted CLIP: mask prompts on and off, precisions, memory.

    python -m bench regions

On a GPU, it also times a ViT-L/14 with random weights, in fp32 and bf16, and compares the
embeddings of both precisions.
"""

import open_clip
import torch

from bench.timing import seconds
from ovseg.models.clip.load import load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.devices import resolve_device


def main() -> None:
    """Print regions per second and the ratios."""
    device = resolve_device("auto")
    clip = load_clip("storybook", device=device, prompt_depth=3)
    _measure(clip, "storybook", batch=256, device=device)
    if device.startswith("cuda"):
        model = open_clip.create_model("ViT-L-14-quickgelu", pretrained=None).to(device).eval()
        tokenizer = open_clip.get_tokenizer("ViT-L-14-quickgelu")
        large = MaskAdaptedCLIP(model, tokenizer=tokenizer, prompt_depth=3).to(device)
        _measure(large, "ViT-L/14 (random weights)", batch=200, device=device)


@torch.inference_mode()
def _measure(clip: MaskAdaptedCLIP, name: str, *, batch: int, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    size = clip.image_size
    pixels = torch.randn(batch, 3, size, size, generator=generator).to(device)
    masks = (torch.rand(batch, size // 16, size // 16, generator=generator) > 0.5).to(device)
    masks = masks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    plain = seconds(lambda: clip.encode_regions(pixels, None, prompts=False))
    prompted = seconds(lambda: clip.encode_regions(pixels, masks))
    print(f"  {name}: {batch / plain:8.0f} regions/s, with mask prompts {batch / prompted:8.0f}"
          f"   ({prompted / plain:.2f} x the time)")  # fmt: skip
    if not device.startswith("cuda"):
        return
    torch.cuda.reset_peak_memory_stats()
    exact = clip.encode_regions(pixels, masks)
    memory = torch.cuda.max_memory_allocated() / 2**30
    with torch.autocast("cuda", torch.bfloat16):
        half = seconds(lambda: clip.encode_regions(pixels, masks))
        rounded = clip.encode_regions(pixels, masks).float()
    cosine = (exact * rounded).sum(-1)
    print(f"    bf16 {batch / half:8.0f} regions/s ({prompted / half:.1f} x fp32);"
          f" cosine to fp32 at least {cosine.min():.4f}; fp32 peak {memory:.1f} GiB")  # fmt: skip
