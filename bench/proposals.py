"""Images per second through a MaskFormer, by batch size, with masks at full resolution.

    python -m bench proposals

On a GPU, it also times the paper's Swin-B network with random weights on images of 640 x 853
pixels, in fp32 and bf16, with peak memory, without the RLE encoding of its masks.
"""

import numpy as np
import torch

from bench.timing import seconds
from ovseg.models.devices import resolve_device
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.preprocessing import InputSettings
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.world import scene_seeds


def main() -> None:
    """Print images per second and the ratio to batches of one."""
    device = resolve_device("auto")
    network = load_maskformer("storybook", device)
    images = [draw_scene(seed).image for seed in scene_seeds("mining", 16)]
    _by_batch("storybook", network, images, (1, 4, 16))
    if not device.startswith("cuda"):
        return
    large = OpenMaskFormer(
        OpenVocabularyMaskFormer(Architecture()),
        class_names=["thing"] * 171,
        text_embeddings=torch.randn(171, Architecture().embedding_dim),
        inputs=InputSettings(),
        digest="random",
        device=torch.device(device),
    )
    pictures = [
        np.random.default_rng(seed).integers(0, 256, (640, 853, 3), dtype=np.uint8)
        for seed in range(16)
    ]
    for bf16 in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            torch.cuda.reset_peak_memory_stats()
            name = f"Swin-B {'bf16' if bf16 else 'fp32'}"
            _by_batch(name, large, pictures, (1, 4, 8))
            memory = torch.cuda.max_memory_allocated() / 2**30
            print(f"    peak {memory:.1f} GiB")


def _by_batch(
    name: str, network: OpenMaskFormer, images: list[np.ndarray], batches: tuple[int, ...]
) -> None:
    alone = 0.0
    for batch in batches:
        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        took = seconds(lambda parts=parts: [network.propose(part) for part in parts], runs=3)
        alone = alone or took
        rate = len(images) / took
        print(f"  {name}, batch {batch:2d}: {rate:6.1f} images/s   {alone / took:.1f} x")
