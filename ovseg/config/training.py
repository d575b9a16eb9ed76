"""Configuration of one phase of adapting CLIP to masked regions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ovseg.config.base import (
    AS_EXECUTION,
    AS_MODELS,
    BETA,
    DEVICES,
    Config,
    Precision,
    RegionStyle,
    bad_share,
    execution,
)
from ovseg.config.registry import METHODS
from ovseg.files.locations import ModelName, Place


class PhaseSettings(Config):
    """One phase of adapting CLIP to masked regions. Defaults: ViT-L/14 of the paper."""

    section: ClassVar[str] = "arms"

    trains: Annotated[str, METHODS] = Field(
        "image_encoder", description="a name in ovseg.config.registry.METHODS"
    )
    clip: ModelName | None = Field(
        None, description=f"starting CLIP, unless a checkpoint is passed in; {AS_MODELS}"
    )
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(256, ge=2)
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        description="parts of a batch that go through CLIP one after another, with the loss of the"
        " whole batch, at the cost of a second forward pass",
    )
    learning_rate: float = Field(5e-6, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    warmup_steps: int = Field(100, ge=0)
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    prompt_learning_rate: float | None = Field(
        None,
        gt=0,
        description="rate of prompts trained with the encoder; defaults to learning_rate",
    )
    prompt_weight_decay: float = Field(0.0, ge=0, description="decay of prompts of every kind")
    prompt_depth: int = Field(3, ge=1, description="blocks that get mask prompts")
    pixel_strength: float = Field(0.1, ge=0, description="alpha of pixel prompts")
    pixel_background: float = Field(
        1.0, ge=0, le=1, description="beta of pixel prompts; the initial value if it is learned"
    )
    learn_background: bool = Field(False, description="learn beta of pixel prompts")
    visual_tokens: int = Field(50, ge=1, description="visual prompts per block")
    visual_depth: int = Field(6, ge=1, description="blocks that get them, at most all")
    crop_scale: tuple[float, float] = Field((0.9, 1.0), description="RandomResizedCrop area")
    augmentation: Literal["exact", "batched"] = Field(
        "exact",
        description="exact: crops are resized one by one, as torchvision does with Pillow; batched:"
        " a batch at once on the device, with torch's cubic kernel",
    )
    template: str = Field("a photo of a {}.", description="text of a noun")
    loss: Literal["batch", "distinct"] = Field(
        "batch",
        description="batch: InfoNCE over the batch (paper); distinct: a softmax over its distinct"
        " nouns, so that regions of one noun are not negatives of each other",
    )
    relation_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="loss=distinct: share of a region's target spread over the nouns of the batch"
        " by the similarity of their texts",
    )
    relation_temperature: float = Field(
        0.05, gt=0, description="temperature of that softmax over cosines"
    )
    train_logit_scale: bool = True
    initial_logit_scale: float | None = Field(
        None, description="as exp of the parameter; defaults to the model's"
    )
    region: RegionStyle = Field("mean", description="what CLIP sees of a pair's mask")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    embedder: Literal["crops", "mask_tokens"] = Field(
        "crops",
        description="what is trained: the embedding of the region's crop, or that of a mask token"
        " over the whole image (region=image)",
    )
    image_size: int = Field(0, ge=0, description="side of that image; 0: the CLIP's own")
    seed: int | None = Field(
        None, description="seed of the order of training; defaults to the run's"
    )
    snapshots: int = Field(
        0,
        ge=0,
        description="how often the trained parameters are saved during training, for curves",
    )
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)
    checkpoint_every: int = execution(500, "steps between resumable states; 0 keeps none")
    device: str | None = execution(None, AS_MODELS)
    precision: Precision | None = Field(
        None, description=f"precision of the forward pass; {AS_MODELS}"
    )
    gradient_checkpointing: bool = execution(
        False, "compute activations again in the backward pass instead of keeping them"
    )
    input: Literal["mapped", "stream"] = Field(
        "mapped",
        description="mapped: regions are cut once into <root>/regions, 4 bytes a pixel, which all"
        " phases and runs share; stream: they are cut in every epoch and shuffled in windows",
    )
    window: int = Field(4096, ge=2, description="pairs shuffled together, in memory three times")
    decode_workers: int | None = execution(None, AS_EXECUTION, ge=0)

    @model_validator(mode="after")
    def _smoothed_loss(self) -> PhaseSettings:
        if self.relation_smoothing and self.loss != "distinct":
            raise ValueError("relation_smoothing needs the loss over nouns: set loss to distinct")
        return self

    @model_validator(mode="after")
    def _parts_of_a_batch(self) -> PhaseSettings:
        if self.gradient_accumulation_steps > self.batch_size:
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} divides a batch of"
                f" {self.batch_size} pairs: set it to at most batch_size"
            )
        return self


class FinetuneConfig(PhaseSettings):
    """One phase of adapting CLIP to masked regions."""

    clip: ModelName = Field(
        "storybook", description="starting CLIP, unless a checkpoint is passed in"
    )
    seed: int = 0
    max_bad_fraction: float = bad_share("pairs that may be unusable")
    image_root: Place | None = execution(None, "folder of the images")
    device: str = execution("auto", DEVICES)
    precision: Precision = Field("fp32", description="precision of the forward pass")
    decode_workers: int = execution(0, "processes that cut regions; 0 cuts in place", ge=0)
