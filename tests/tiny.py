"""Networks with random weights that are small enough to be made in a test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from ovseg.models.clip.load import create_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.maskformer.load import save_maskformer
from ovseg.models.maskformer.open_vocabulary import Architecture, OpenVocabularyMaskFormer
from ovseg.models.preprocessing import InputSettings
from ovseg.pretraining.clip import cut_bpe

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 3}
TEXT = {"context_length": 12, "vocab_size": 614, "width": 32, "heads": 2, "layers": 1}


def clip_config(
    *,
    embed_dim: int = 16,
    quick_gelu: bool = False,
    vision: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """open_clip's configuration of a ViT of a few narrow blocks; its vocabulary is cut to 614."""
    return {
        "embed_dim": embed_dim,
        "quick_gelu": quick_gelu,
        "vision_cfg": {**VISION, **(vision or {})},
        "text_cfg": {**TEXT, **(text or {})},
    }


CLIP = clip_config(quick_gelu=True)


def cut_vocabulary(path: Path) -> Path:
    """Write a file of 100 merges, as these CLIPs have."""
    assert cut_bpe(Path(open_clip.tokenizer.default_bpe()), path, merges=100) == 614
    return path


def make_clip(
    vocabulary: Path | None,
    config: Mapping[str, Any] = CLIP,
    *,
    prompt_depth: int = 0,
    seed: int = 0,
) -> MaskAdaptedCLIP:
    """A CLIP whose mask prompts, if it has any, are random too."""
    torch.manual_seed(seed)
    model = create_clip(dict(config), prompt_depth=prompt_depth, vocabulary=vocabulary)
    if model.mask_prompts is not None:
        nn.init.normal_(model.mask_prompts, std=0.5)
    return model.eval()


def pixels_and_masks(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions for `CLIP`: `(count, 3, 32, 32)` noise and masks that are all different."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(count, 3, 32, 32, generator=generator)
    masks = torch.zeros(count, 32, 32, dtype=torch.bool)
    for index in range(count):
        masks[index, index % 16 : 20, 3 : 9 + index] = True
    return pixels, masks


RESNET = Architecture(
    backbone="resnet",
    backbone_dim=8,
    depths=(1, 1, 1, 1),
    heads=(),
    feature_dim=32,
    mask_dim=32,
    query_dim=32,
    queries=6,
    decoder_layers=2,
    decoder_heads=2,
    decoder_ffn=32,
    class_hidden_dim=32,
    embedding_dim=16,
)
"""A MaskFormer for the texts of `CLIP`."""
COARSE = RESNET.model_copy(
    update={"depths": (1, 1, 1), "decoder_layers": 1, "decoder_ffn": 2048, "queries": 100}
)
"""Of three feature maps."""
SWIN = RESNET.model_copy(
    update={
        "backbone": "swin",
        "heads": (1, 2, 2, 2),
        "window": 4,
        "drop_path": 0.0,
        "class_hidden_dim": 16,
    }
)
INPUTS = InputSettings(short_side=64, max_side=128)


def save_network(
    architecture: Architecture, folder: Path, names: Sequence[str], texts: torch.Tensor
) -> Path:
    """Write the folder of a MaskFormer with random weights."""
    torch.manual_seed(0)
    network = OpenVocabularyMaskFormer(architecture)
    save_maskformer(network, folder, inputs=INPUTS, class_names=names, text_embeddings=texts)
    return folder
