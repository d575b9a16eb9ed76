"""Configuration: one frozen model a stage, each with a digest, and named presets of the whole run.

A field marked `execution` (paths, devices, batch sizes of pure inference, worker counts, how many
bad items are put up with) says how a stage is run, not what it computes: it stays out of the digest
and out of the manifest. Presets live in `ovseg.presets`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ovseg.locations import LocalPath, ModelName, Place
from ovseg.registry import (
    FORMATS,
    METHODS,
    PROPOSERS,
    READERS,
    SEGMENTS,
    SOURCES,
    Registry,
    modules_named,
)

PairSource = Literal["mined", "gt_label", "gt_noun"]
RegionStyle = Literal["mean", "zero", "box", "attenuated_box", "image", "attenuated_image"]
BETA = "share of the image that the attenuated styles keep outside the mask"


def execution(default: Any, description: str, **limits: Any) -> Any:
    """A field that says how a stage is run and does not change its result.

    Args:
        default: its value where none is given.
        description: what it is.
        limits: `ge`, `le` and the like, as pydantic's `Field` takes them.
    """
    extra: dict[str, Any] = {"execution": True}
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Config(BaseModel):
    """A frozen stage configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _execution_fields(self) -> dict[str, Any]:
        """The execution fields as pydantic's include and exclude take them, nested ones too."""
        fields: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("execution"):
                fields[name] = True
            elif inner := _nested_execution_fields(getattr(self, name)):
                fields[name] = inner
        return fields

    def published(self) -> dict[str, Any]:
        """The fields that determine the result, as JSON values."""
        return self.model_dump(mode="json", exclude=self._execution_fields())

    def execution(self) -> dict[str, Any]:
        """The fields that do not."""
        return self.model_dump(mode="json", include=self._execution_fields())

    def digest(self) -> str:
        """16 hex digits over the fields that determine the result."""
        text = json.dumps(self.published(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def modules_named(self) -> set[str]:
        """The modules of the registry entries that the settings name, nested ones too."""
        found: set[str] = set()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if registries := [each for each in field.metadata if isinstance(each, Registry)]:
                found |= modules_named(value, registries)
            for inner in (value, *(member for _, member in _members(value))):
                if isinstance(inner, Config):
                    found |= inner.modules_named()
        return found


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    """The members of a tuple, list or dict, by index or key; of anything else none."""
    if isinstance(value, tuple | list):
        return enumerate(value)
    return value.items() if isinstance(value, dict) else ()


def _nested_execution_fields(value: Any) -> dict[Any, Any]:
    """Of a configuration in a field, or of those in its tuple or dict."""
    if isinstance(value, Config):
        return value._execution_fields()
    found = {key: _nested_execution_fields(member) for key, member in _members(value)}
    return {key: inner for key, inner in found.items() if inner}


# --------------------------------------------------------------------------------------
# Data


class WorldConfig(Config):
    """The embedded storybook world written to disk in COCO format."""

    part: Literal["pretrain", "mining", "val"] = Field(
        description="which disjoint range of scene seeds"
    )
    scenes: int = Field(400, ge=1, description="how many scenes")
    size: int = Field(160, ge=64, description="side of a scene in pixels")
    seed: int = Field(0, ge=0, description="offset inside the part's range of scene seeds")


class ImagesConfig(Config):
    """Images and their captions, checked and listed: the source of a mining run."""

    section: ClassVar[str] = "images"

    dataset: str = Field("storybook", description="name of the data set in every table")
    captions: Place | None = execution(None, "captions file or folder, a path or a URL")
    captions_format: Annotated[str, FORMATS] = Field(
        "auto", description="a name in ovseg.registry.FORMATS; auto goes by the file's name"
    )
    path_column: str | None = Field(None, description="of a table: file names; else by its name")
    caption_column: str | None = Field(None, description="of a table: captions; else by its name")
    image_root: Place | None = execution(
        None, "folder or URL the captions' file names are relative to"
    )
    captions_per_image: int | None = Field(
        None, ge=1, description="the first n captions by id; all where empty (the paper: 1 or 5)"
    )
    uncaptioned: bool = Field(False, description="keep images nobody captioned (labels need none)")
    limit: int | None = Field(None, ge=1, description="the first n images by id, for trials")
    shard_size: int = Field(2000, ge=1, description="images a shard")
    min_shards: int = Field(8, ge=1, description="cut small sets finer, so that they run sharded")
    max_pixels: int = Field(
        100_000_000, ge=1, le=178_956_970, description="larger images are refused unread"
    )
    max_bad_fraction: float = execution(
        0.05, "share of images that may be missing or broken; more stop the stage", ge=0, le=1
    )


# --------------------------------------------------------------------------------------
# Mining


class NounsConfig(Config):
    """Nouns of captions."""

    parser: ModelName = Field("storybook", description="spaCy pipeline: storybook, package or path")
    compounds: bool = Field(True, description="also 'picket fence' beside 'fence'")
    proper_nouns: bool = Field(True, description="PROPN counts as noun, as in NLTK's NN* tags")
    stop_nouns: bool = Field(True, description="drop nouns that name nothing visible (a row stays)")
    batch_size: int = execution(256, "captions a batch")


class ProposalsConfig(Config):
    """Mask proposals. Every gate is off by default, as in the paper."""

    section: ClassVar[str] = "proposals"

    source: Annotated[str, SOURCES, PROPOSERS] = Field(
        "maskformer", description="a name in ovseg.registry.SOURCES"
    )
    maskformer: ModelName = Field(
        "storybook", description="weights of the source: storybook, a folder or a hub id"
    )
    segments: Annotated[str, SEGMENTS] = Field(
        "queries", description="a name in ovseg.registry.SEGMENTS: what queries become"
    )
    label_set: Annotated[str, READERS] = Field(
        "", description="of ground truth: benchmark, the folder's name if empty"
    )
    label_classes: tuple[str, ...] = Field((), description="whose masks may be used; all if empty")
    labels: LocalPath | None = execution(None, "of ground truth: folder of the labelled set")
    short_side: int = Field(640, description="images are resized to this short side ...")
    max_side: int = Field(2560, description="... but no longer than this")
    mask_threshold: float = Field(0.5, gt=0, lt=1, description="a pixel is in the mask above this")
    min_score: float | None = Field(None, description="drop proposals scored below")
    min_area_fraction: float | None = Field(None, description="drop masks smaller than this")
    nms_iou: float | None = Field(None, description="drop masks overlapping a better one by more")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the forward pass")
    max_bad_fraction: float = execution(
        0.05, "share of images that may be missing or broken; more stop the stage", ge=0, le=1
    )
    image_root: Place | None = execution(None, "folder of the images")
    batch_size: int = execution(8, "images a batch")
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")
    decode_workers: int = execution(0, "processes that decode images; 0 decodes in place")

    def unlabelled(self) -> dict[str, Any]:
        """The same source as settings of a segmentor, which has no labels to take masks from."""
        source = "maskformer" if self.source == "ground_truth" else self.source
        shared = ("maskformer", "segments", "short_side", "max_side")
        return {"proposals": source, **{name: getattr(self, name) for name in shared}}


class PairingConfig(Config):
    """For every noun of an image the proposal that CLIP likes best."""

    section: ClassVar[str] = "pairing"

    dataset: str = Field("storybook", description="name of the data set in the pair table")
    source: Literal["mined", "gt_noun"] = Field("mined", description="source in the pair table")
    round: int = Field(0, ge=0, description="mining round; 0 pairs with the original CLIP")
    clip: ModelName = Field("storybook", description="storybook, a folder or ARCH/pretrained")
    template: str = Field("a photo of a {}", description="text of a noun; {} is the noun")
    region: RegionStyle = Field("mean", description="what CLIP sees of a proposal")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    expand_ratio: float = Field(1.0, ge=1, description="crop box enlargement")
    min_similarity: float | None = Field(None, description="gate: cosine of noun and region")
    min_margin: float | None = Field(None, description="gate: best minus second proposal")
    min_proposal_score: float | None = Field(None, description="gate: the proposal's own score")
    min_area_fraction: float | None = Field(None, description="gate: share of the image")
    mutual_best: bool = Field(False, description="gate: the noun is also its proposal's best")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the forward pass")
    max_bad_fraction: float = execution(
        0.05, "share of images that may be missing or broken; more stop the stage", ge=0, le=1
    )
    image_root: Place | None = execution(None, "folder of the images")
    batch_size: int = execution(256, "regions a batch")
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")
    decode_workers: int = execution(0, "processes that decode images; 0 decodes in place")


class TextsConfig(Config):
    """Text embeddings of the distinct nouns, computed once a noun and model."""

    clip: ModelName = "storybook"
    template: str = "a photo of a {}"
    batch_size: int = execution(512, "texts a batch")
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")


class TableConfig(Config):
    """The published pair table: compacted, totally ordered."""

    dataset: str = "storybook"
    round: int = 0
    source: PairSource = "mined"


class CurationConfig(Config):
    """A training set: a SQL query over the pair table."""

    query: str = Field("paper", description="name of a file in sql/curation, or a path to one")
    sql: str = Field(description="its text, so that the digest covers it")


# --------------------------------------------------------------------------------------
# Training


class FinetuneConfig(Config):
    """One phase of adapting CLIP to masked regions. Defaults: ViT-L/14 of the paper."""

    section: ClassVar[str] = "arms"

    trains: Annotated[str, METHODS] = Field(
        "image_encoder", description="a name in ovseg.registry.METHODS"
    )
    clip: ModelName = Field("storybook", description="start, where no checkpoint is handed in")
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(5e-6, gt=0)
    weight_decay: float = Field(0.2, ge=0)
    warmup_steps: int = Field(100, ge=0)
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    prompt_learning_rate: float | None = Field(
        None, gt=0, description="of prompts trained beside the encoder; learning_rate if empty"
    )
    prompt_weight_decay: float = Field(0.0, ge=0, description="of prompts of every kind")
    prompt_depth: int = Field(3, ge=1, description="blocks that are fed mask prompts")
    pixel_strength: float = Field(0.1, ge=0, description="alpha of pixel prompts")
    pixel_background: float = Field(
        1.0, ge=0, le=1, description="beta of pixel prompts; where it is learned, its start"
    )
    learn_background: bool = Field(False, description="learn beta of pixel prompts")
    visual_tokens: int = Field(50, ge=1, description="visual prompts a block")
    visual_depth: int = Field(6, ge=1, description="blocks that get them, or all there are")
    crop_scale: tuple[float, float] = Field((0.9, 1.0), description="RandomResizedCrop area")
    augmentation: Literal["exact", "batched"] = Field(
        "exact",
        description="crops resized one by one as torchvision does with Pillow, or a batch at once"
        " on the device with torch's cubic kernel",
    )
    template: str = Field("a photo of a {}.", description="text of a noun")
    loss: Literal["batch", "distinct"] = Field(
        "batch",
        description="InfoNCE over the batch (paper), or a softmax over its distinct nouns, where"
        " two regions of one noun are no negatives of each other",
    )
    relation_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="of loss=distinct: share of a region's target that goes to the nouns of the"
        " batch by how alike their texts are",
    )
    relation_temperature: float = Field(0.05, gt=0, description="of that softmax over cosines")
    train_logit_scale: bool = True
    initial_logit_scale: float | None = Field(None, description="exp of it; the model's if empty")
    region: RegionStyle = Field("mean", description="what CLIP sees of a pair's mask")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    embedder: Literal["crops", "mask_tokens"] = Field(
        "crops",
        description="what is trained: the embedding of the region, or that of a mask token over"
        " the whole picture (region=image)",
    )
    picture_size: int = Field(0, ge=0, description="side of that picture; 0: the CLIP's own")
    seed: int = 0
    snapshots: int = Field(
        0,
        ge=0,
        description="how often the trained parameters are kept on the way, for learning curves",
    )
    max_bad_fraction: float = execution(
        0.05, "share of pairs that may be unusable; more stop the stage", ge=0, le=1
    )
    checkpoint_every: int = execution(500, "steps between resumable states; 0 keeps none")
    image_root: Place | None = execution(None, "folder of the images")
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the forward pass")
    cache_regions: bool = execution(True, "keep decoded regions in memory between epochs ...")
    cache_gib: float = execution(2.0, "... if they fit into this much of it")
    decode_workers: int = execution(0, "threads that decode images ahead; 0 decodes in place")

    @model_validator(mode="after")
    def _smoothed_loss(self) -> FinetuneConfig:
        if self.relation_smoothing and self.loss != "distinct":
            raise ValueError("relation_smoothing is of the loss over nouns: set loss to distinct")
        return self


# --------------------------------------------------------------------------------------
# Judging


class TruthConfig(Config):
    """Pairs held against ground-truth masks."""

    panoptic: LocalPath | None = execution(None, "COCO panoptic JSON, its PNGs beside it")
