"""A CLIP of three small blocks with random weights."""

from pathlib import Path

import torch
from torch import nn

from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 32,
        "head_width": 16,
        "layers": 3,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 614, "width": 32, "heads": 2, "layers": 1},
}


def make_clip(vocabulary: Path, *, prompt_depth: int = 0, seed: int = 0) -> MaskAdaptedCLIP:
    torch.manual_seed(seed)
    model = create_clip(CONFIG, prompt_depth=prompt_depth, vocabulary=vocabulary)
    if model.mask_prompts is not None:
        nn.init.normal_(model.mask_prompts, std=0.5)
    return model.eval()


def pixels_and_masks(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    masks = torch.zeros(count, 32, 32, dtype=torch.bool)
    for index in range(count):
        masks[index, index % 16 : 20, 3 : 9 + index] = True
    return pixels, masks
