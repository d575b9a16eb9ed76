"""The shapes that are measured: the paper's, or tiny ones that only show that everything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovseg.models.maskformer.open_vocabulary import Architecture


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Shapes of images, batches and networks.

    Attributes:
        image: height and width of an image that is proposed and named.
        masks: masks of an image that are named.
        proposal_batches: images proposed at once.
        maskformer: the network that proposes.
        clips: architectures of open_clip by name, or its configurations.
        naming: the CLIP that names.
        token_sizes: sides of an image whose masks are tokens.
        pooling: architecture and side of an image whose masks are pooled; None for the
            storybook's.
        training: CLIPs that are trained.
        batch: pairs of a step.
        mined: images that are mined, of 480 x 640 pixels.
        scenes: scenes of the storybook whose masks are named at both precisions.
        seconds: how long a figure is measured after its first run.
        compiler: backend of torch.compile.
    """

    image: tuple[int, int] = (640, 853)
    masks: int = 100
    proposal_batches: tuple[int, ...] = (8, 16)
    maskformer: Architecture
    clips: Mapping[str, Any]
    naming: str = "ViT-L/14"
    token_sizes: tuple[int, ...] = (224, 448)
    pooling: tuple[str | None, int] = ("convnext_large_d", 640)
    training: tuple[str, ...] = ("ViT-L/14", "ViT-B/16")
    batch: int = 256
    mined: int = 64
    scenes: int = 24
    seconds: float = 3.0
    compiler: str = "inductor"


FULL = Sizes(
    maskformer=Architecture(),
    clips={"ViT-L/14": "ViT-L-14-quickgelu", "ViT-B/16": "ViT-B-16-quickgelu"},
)
_SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY = Sizes(
    image=(64, 85),
    masks=5,
    proposal_batches=(1, 2),
    maskformer=Architecture(
        backbone_dim=8,
        depths=(1, 1, 1, 1),
        heads=(1, 2, 2, 2),
        window=4,
        drop_path=0.0,
        feature_dim=32,
        mask_dim=32,
        query_dim=32,
        queries=6,
        decoder_layers=2,
        decoder_heads=2,
        decoder_ffn=32,
        class_hidden_dim=16,
        embedding_dim=16,
    ),
    clips={"small": _SMALL},
    naming="small",
    token_sizes=(32,),
    pooling=(None, 64),
    training=("small",),
    batch=4,
    mined=2,
    scenes=2,
    seconds=0.0,
    compiler="eager",
)
