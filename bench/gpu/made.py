"""Networks with random weights, images and masks that nothing has to be downloaded for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bench.gpu.sizes import Sizes
from ovseg.models.clip.load import create_clip, create_model
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.maskformer.open_vocabulary import OpenVocabularyMaskFormer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.preprocessing import InputSettings

NOUNS = (
    *("dog", "cat", "horse", "cow", "bird", "person", "car", "bus", "train", "boat", "bicycle"),
    *("tree", "grass", "sky", "road", "wall", "floor", "table", "chair", "sofa", "lamp", "window"),
    *("door", "house", "bridge", "river", "sea", "sand", "snow", "mountain", "cloud", "flower"),
    *("plate", "cup", "bowl", "bottle", "book", "clock", "vase", "pillow", "shelf", "sink"),
)
"""A small vocabulary of texts."""


def clip(sizes: Sizes, name: str, device: str) -> MaskAdaptedCLIP:
    """Make a ViT by its name in `Sizes.clips`, in eval mode."""
    torch.manual_seed(0)
    return create_clip(_configuration(sizes.clips[name])).to(device).eval().requires_grad_(False)


def convolutional_clip(architecture: str, device: str) -> OpenClipModel:
    """Make a convolutional CLIP of open_clip, in eval mode."""
    torch.manual_seed(0)
    return create_model(_configuration(architecture)).to(device).eval().requires_grad_(False)


def _configuration(architecture: Any) -> dict[str, Any]:
    known = isinstance(architecture, str)
    return dict(open_clip.get_model_config(architecture) if known else architecture)


def network(sizes: Sizes) -> OpenVocabularyMaskFormer:
    """Make a MaskFormer whose queries differ, so that its masks are of several shapes."""
    torch.manual_seed(0)
    made = OpenVocabularyMaskFormer(sizes.maskformer).requires_grad_(False)
    decoder = made.model.transformer_module
    with torch.no_grad():
        for weight in (decoder.queries_embedder.weight, *decoder.decoder.parameters()):
            if weight.ndim == 2:
                nn.init.normal_(weight, std=3 / weight.shape[1] ** 0.5)
        made.mask_embed.layers[-1].weight.mul_(30)
    return made


def maskformer(sizes: Sizes, device: str) -> OpenMaskFormer:
    """Make that network as one that proposes masks."""
    short, long = sorted(sizes.image)
    return OpenMaskFormer(
        network(sizes),
        class_names=NOUNS,
        text_embeddings=torch.randn(len(NOUNS), sizes.maskformer.embedding_dim),
        inputs=InputSettings(short_side=short, max_side=max(long, 4 * short)),
        digest="random",
        device=torch.device(device),
    )


@lru_cache(maxsize=32)
def image(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Draw noise as smooth as large things, `(H, W, 3)` uint8.

    Grain would make the masks of random weights ten times as long in run-length codes.
    """
    generator = np.random.default_rng(seed)
    cells = (max(2, height // 80), max(2, width // 80), 3)
    noise = generator.integers(0, 255, cells, dtype=np.uint8)
    return np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def masks(count: int, height: int, width: int, device: str) -> Tensor:
    """Make `(Q, H, W)` bool masks: ellipses of all sizes, each with a hole."""
    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[:height, :width]
    made = []
    for _ in range(count):
        y, x = generator.uniform(0.2, 0.8, 2) * (height, width)
        high, wide = generator.uniform(0.08, 0.45, 2) * (height, width)
        distance = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2
        made.append((distance < 1) & (distance > 0.02))
    return torch.from_numpy(np.stack(made)).to(device)


def write_jpegs(folder: Path, count: int) -> None:
    """Write images of 480 x 640 as `0.jpg`, `1.jpg`, ..."""
    for number in range(count):
        Image.fromarray(image(number, 480, 640)).save(folder / f"{number}.jpg", quality=90)
