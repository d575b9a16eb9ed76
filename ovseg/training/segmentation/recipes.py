"""The configuration of a training on masks and labels, and the named recipes.

`swin` and `r101c` hold the published constants (OVSeg, CVPR 2023, and the official implementation:
COCO-Stuff, 120k steps of 32 crops on 8 large GPUs); `lseg` trains pixel embeddings in the same
way; `compact` trains the shipped model on two CPU cores, and `compact-lseg` and
`compact-supervised` may start from it. `recipe("swin", {...})` returns one with some settings
replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from ovseg.config.base import Config, execution
from ovseg.config.registry import RECIPES, chosen
from ovseg.errors import OvsegError
from ovseg.files.locations import LocalPath
from ovseg.models.lseg.network import TEMPERATURE
from ovseg.models.maskformer.open_vocabulary import R101C, Architecture
from ovseg.models.preprocessing import InputSettings
from ovseg.training.segmentation.augmentation import HUE_DEGREES


class SegmentationConfig(Config):
    """Training on masks and labels. Defaults: the paper's Swin-B MaskFormer with ViT-L/14."""

    head: Literal["queries", "fpn", "dpt"] = Field(
        "queries",
        description="queries: the class-embedding MaskFormer; pixel embeddings (LSeg) from the"
        " feature pyramid, or from a fusion decoder",
    )
    temperature: float = Field(
        TEMPERATURE, gt=0, description="temperature of pixel embeddings' cosines"
    )
    architecture: Architecture = Architecture()
    inputs: InputSettings = InputSettings()
    steps: int = Field(120_000, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(6e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0, description="not on norms, embeddings, position biases")
    backbone_multiplier: float = Field(1.0, gt=0, description="learning rate of the backbone, x")
    backbone_file: LocalPath | None = execution(
        None, "weights trained for classification; defaults to random ones"
    )
    start: str = execution(
        "", "class-embedding MaskFormer to take weights from; defaults to random ones"
    )
    frozen_parts: int = Field(
        0, ge=0, description="for a deep-stem ResNet: 1 the stem, 2 the stem and the first stage"
    )
    warmup_steps: int = Field(1500, ge=0)
    warmup_factor: float = Field(1e-6, gt=0, description="first learning rate, x")
    power: float = Field(0.9, gt=0, description="power of the polynomial decay")
    clip_norm: float = Field(0.01, gt=0, description="largest gradient norm of the whole model")
    crop: int = Field(640, ge=32, multiple_of=32, description="side of the training crops, pixels")
    short_sides: tuple[int, ...] = tuple(64 * step for step in range(5, 21))
    max_side: int = 2560
    flip: bool = True
    colour_jitter: bool = True
    hue_degrees: float = Field(
        HUE_DEGREES, ge=0, le=180, description="maximum hue rotation of color jitter"
    )
    targets: Literal["category", "segment"] = Field(
        "category", description="one mask per class (paper), or one per segment"
    )
    ignore_unknown: bool = Field(
        False, description="exclude unlabelled pixels from mask losses; paper: background"
    )
    spare_unknown: float | None = Field(
        None, description="unlabelled share above which an unmatched query has no class loss"
    )
    target_stride: int = Field(1, ge=1, description="masks are compared at 1/stride of the crop")
    non_object_weight: float = Field(0.1, ge=0)
    mask_weight: float = Field(20.0, ge=0)
    dice_weight: float = Field(1.0, ge=0)
    half_weights: bool = Field(False, description="store float16 weights")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="precision of the forward pass")
    draws: Literal["sample", "one"] = Field(
        "sample",
        description="random generators of the augmentation: one per sample, so that threads can"
        " share the work, or one for all",
    )
    seed: int = 0
    checkpoint_every: int = execution(500, "steps between resumable states; 0 keeps none", ge=0)
    workers: int = execution(
        0, "threads that prepare the next batch; none with 0 or draws=one", ge=0
    )
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")


R101C_CONFIG = SegmentationConfig(
    architecture=R101C,
    inputs=InputSettings(short_side=512, max_side=2048),
    learning_rate=2e-4,
    weight_decay=1e-4,
    backbone_multiplier=0.1,
    frozen_parts=2,  # detectron2's default for a ResNet, unchanged by the published settings
    crop=512,
    # the published settings give no sizes; these are Swin-B's in proportion to the crop
    short_sides=tuple(int(0.1 * step * 512) for step in range(5, 21)),
    max_side=2048,
)
"""The paper's recipe of the ResNet-101c + ViT-B/16 model; it needs a `backbone_file`."""


COMPACT_CONFIG = SegmentationConfig(
    architecture=Architecture(
        backbone="resnet",
        backbone_dim=32,
        depths=(1, 1, 2),
        heads=(),
        feature_dim=64,
        mask_dim=64,
        query_dim=96,
        queries=32,
        decoder_layers=4,
        decoder_heads=4,
        decoder_ffn=256,
        dropout=0.0,
        class_hidden_dim=256,
        embedding_dim=128,
    ),
    inputs=InputSettings(short_side=160, max_side=640),
    steps=6000,
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.05,
    warmup_steps=100,
    warmup_factor=1e-3,
    clip_norm=1.0,
    dice_weight=5.0,
    crop=128,
    hue_degrees=18.0,
    short_sides=(112, 128, 144, 160),
    max_side=640,
    ignore_unknown=True,
    spare_unknown=0.5,
    target_stride=4,
    half_weights=True,
    draws="one",
    device="cpu",
)
"""The recipe of the compact MaskFormers that ship with the repository."""

LSEG_CONFIG = R101C_CONFIG.model_copy(update={"head": "fpn", "target_stride": 2})
"""LSeg+ on ResNet-101c + ViT-B/16. OVSeg's table gives only backbone and data (R-101, COCO
Panoptic: 2.5 / 5.2 / 13.0 / 36.0 / 59.0 mIoU on A-847, PC-459, A-150, PC-59, PAS-20); schedule and
augmentation are those of `r101c`, so that the heads can be compared. Needs a `backbone_file`."""

COMPACT_LSEG_CONFIG = COMPACT_CONFIG.model_copy(
    update={"head": "fpn", "steps": 500, "warmup_steps": 50}
)
"""Pixel embeddings for the storybook: takes minutes if started from the compact MaskFormer."""

COMPACT_SUPERVISED_CONFIG = COMPACT_CONFIG.model_copy(update={"steps": 600, "warmup_steps": 50})
"""The compact MaskFormer trained with more classes: takes minutes if started from one."""

SWIN_CONFIG = SegmentationConfig()


def recipe(name: str, settings: Mapping[str, Any] | None = None) -> SegmentationConfig:
    """Return a recipe by its name, with settings replaced.

    Args:
        name: a key of `ovseg.config.registry.RECIPES`.
        settings: new values by field; `architecture` and `inputs` take mappings of their fields,
            and omitted fields keep their values.

    Raises:
        OvsegError: if there is no such recipe or field, or a value is invalid.
    """
    values = chosen(RECIPES, name, setting="--recipe").model_dump()
    for key, value in (settings or {}).items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    try:
        return SegmentationConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        names = ", ".join(SegmentationConfig.model_fields)
        raise OvsegError(
            f"recipe {name}: invalid setting {place} ({first['msg']}); there are {names}"
        ) from None
