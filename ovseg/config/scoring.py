"""Configuration of measuring: the segmentor on a benchmark, its scores, tuning and curves.

The registries in `ovseg.config.registry` hold the names that a setting may take.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ovseg.config.base import (
    AS_EXECUTION,
    AS_MODELS,
    BETA,
    DEVICES,
    Config,
    RegionStyle,
    bad_share,
    execution,
)
from ovseg.config.registry import (
    EMBEDDERS,
    PROMPTINGS,
    PROPOSERS,
    READERS,
    SEGMENTS,
    TEMPLATES,
    modules_named,
)
from ovseg.files.locations import LocalPath, Location, ModelName, Place

EMBEDDING = (
    "clip",
    "embedder",
    "pixels",
    "mask_prompts",
    "region",
    "background",
    "expand_ratio",
    "image_size",
    "short_side",
    "max_side",
    "whole_places",
    "batch_size",
    "device",
)
"""The settings of a benchmark that decide how a region is embedded."""


class BenchmarkSettings(Config):
    """Segmentation of the images of a validation set."""

    section: ClassVar[str] = "benchmarks"

    benchmark: Annotated[str, READERS] = Field("storybook", description="name of the benchmark")
    system: str = Field(
        "ovseg",
        description="a name in ovseg.config.systems.SYSTEMS, which stands for other settings",
    )
    clip: ModelName | None = Field(
        None, description=f"CLIP, unless a checkpoint is passed in; {AS_MODELS}"
    )
    proposals: Annotated[str, PROPOSERS] = Field(
        "maskformer", description="a name in ovseg.config.registry.PROPOSERS: what proposes masks"
    )
    maskformer: ModelName | None = Field(None, description=f"its weights; {AS_MODELS}")
    segments: Annotated[str, SEGMENTS] = Field(
        "queries", description="a name in ovseg.config.registry.SEGMENTS: what queries become"
    )
    prompting: Annotated[str, PROMPTINGS] = Field(
        "templates", description="a name in ovseg.config.registry.PROMPTINGS"
    )
    templates: Annotated[str, TEMPLATES] = Field(
        "vild", description="template set of the class names"
    )
    period: bool = Field(True, description="false drops the period at the end of a template")
    contexts: int = Field(6, ge=1, description="prompting=mined: a noun's n most frequent contexts")
    contexts_from: LocalPath | None = execution(
        None, "prompting=mined: folder of a nouns stage; defaults to the run's"
    )
    synonyms: bool = Field(
        False, description="a class gets the best logit of its name and listed synonyms"
    )
    relations: float = Field(
        0.0, ge=0, le=1, description="share of its probability a class lends to similar classes"
    )
    short_side: int | None = Field(
        640, ge=1, description="images are resized to this short side; null: the network's own"
    )
    max_side: int | None = Field(
        2560, ge=1, description="... but no longer than this; null: the network's own"
    )
    mask_threshold: float = Field(
        0.4, gt=0, lt=1, description="threshold of the masks shown to CLIP"
    )
    ensemble_weight: float = Field(
        0.7, ge=0, le=1, description="lambda of the geometric ensemble; 0 is CLIP alone (upstream)"
    )
    seen_weight: float | None = Field(
        None, ge=0, le=1, description="lambda of the seen classes; defaults to ensemble_weight"
    )
    ensemble: Literal["upstream", "geometric", "void", "clip_only", "maskformer_only"] = Field(
        "upstream",
        description="geometric is the formula for every lambda, so that 0 is MaskFormer alone;"
        " void: normalized, times 1 - P(non-object), as in FC-CLIP",
    )
    inference: Literal["sum", "best_mask"] = Field(
        "sum",
        description="sum: all proposals with their soft masks; best_mask: one binary mask per"
        " class, as in the official demo, and uncovered pixels count as missed",
    )
    vocabulary: Literal["open", "own"] = Field(
        "open",
        description="own: the MaskFormer scores the classes it was trained on, matched by name;"
        " always the case for a closed network used alone (maskformer_only)",
    )
    segmentor: Literal["proposals", "pixels"] = Field(
        "proposals",
        description="pixels: each pixel by its own embedding (LSeg), without proposals or anything"
        " that needs them, such as an ensemble",
    )
    pixels: ModelName = execution(
        "",
        "folder of the pixel embeddings, for segmentor=pixels and embedder=pixel_pooling;"
        " storybook-lseg is trained on first use",
    )
    embedder: Annotated[str, EMBEDDERS] = Field(
        "crops", description="a name in ovseg.config.registry.EMBEDDERS"
    )
    retrieval_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight of the nearest mined regions' nouns against CLIP's own answer",
    )
    retrieval_neighbors: int = Field(16, ge=1, description="regions that vote")
    mask_prompts: bool = Field(True, description="use mask prompts if the CLIP has them")
    region: RegionStyle = Field("mean", description="what CLIP sees of a proposal")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    expand_ratio: float = Field(1.0, ge=1)
    image_size: int = Field(
        0,
        ge=0,
        description="size in pixels of the whole image for mask_tokens (side of a square) and"
        " mask_pooling (short side); 0: the CLIP's own, and the benchmark's short_side",
    )
    whole_places: bool = Field(
        False,
        description="mask_pooling counts places that are mostly covered, as in FC-CLIP, and drops"
        " masks without one; otherwise it weights each by the covered share",
    )
    oracle: Literal["none", "gt_masks", "gt_labels"] = Field(
        "none",
        description="gt_masks: CLIP names the ground-truth masks; gt_labels: the proposals get"
        " their ground-truth classes",
    )
    seen: tuple[str, ...] = Field((), description="classes whose masks were used in training")
    trained_on: tuple[str, ...] = Field(
        (),
        description="or vocabularies whose masks were used; classes that share a name or a listed"
        " synonym with one of theirs are seen",
    )
    seen_split: ModelName = Field(
        "",
        description="a published split to score in addition: 156-15 of coco-stuff-171, 15-5 of"
        " voc-20, coco-stuff of ade20k-150; or the path of a .tsv",
    )
    limit: int | None = Field(None, ge=1, description="the first n images, for trials")
    shard_size: int = Field(500, ge=1, description="images per shard")
    min_shards: int = Field(2, ge=1)
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)
    root: LocalPath | None = execution(None, "folder of the prepared benchmark")
    batch_size: int = execution(256, "regions per batch")
    device: str | None = execution(None, AS_MODELS)

    @model_validator(mode="after")
    def _reject_ineffective(self) -> BenchmarkSettings:
        """Reject settings that others would override."""
        is_set = {
            "oracle=gt_labels": self.oracle == "gt_labels",
            "retrieval_weight": self.retrieval_weight > 0,
            "relations": self.relations > 0,
            "seen_weight": self.seen_weight is not None,
            "inference=best_mask": self.inference == "best_mask",
        }
        mask_settings = [name for name, is_on in is_set.items() if is_on]
        if self.segmentor == "pixels" and mask_settings:
            raise ValueError(
                "benchmarks.segmentor=pixels proposes no masks, but"
                f" benchmarks.{mask_settings[0]} needs them: use benchmarks.segmentor=proposals"
            )
        if self.ensemble == "maskformer_only" and self.retrieval_weight:
            raise ValueError(
                "benchmarks.retrieval_weight weights regions' votes against CLIP's, but"
                " benchmarks.ensemble=maskformer_only does not use CLIP: change one of them"
            )
        return self


class BenchmarkConfig(BenchmarkSettings):
    """The two-stage segmentor on a validation set."""

    clip: ModelName = Field("storybook", description="CLIP, unless a checkpoint is passed in")
    maskformer: ModelName = Field(
        "storybook", description="its weights: storybook, a folder or a hub id for maskformer"
    )
    max_bad_fraction: float = bad_share("images or retrieved regions that may be bad")
    device: str = execution("auto", DEVICES)

    def without_memory(self) -> BenchmarkConfig:
        """Return the same without retrieval, for figures, which have no mined regions."""
        return self.model_copy(update={"retrieval_weight": 0.0})


class MemoryConfig(Config):
    """Embeddings of mined regions, made like those of a benchmark's proposals."""

    section: ClassVar[str] = "benchmarks"

    benchmark: BenchmarkConfig = Field(description="only its embedding settings count")
    image_root: Place | None = execution(None, "folder of the images")
    max_bad_fraction: float = bad_share("pairs that may be unusable")

    @classmethod
    def of(cls, benchmark: BenchmarkConfig, image_root: Location | None) -> MemoryConfig:
        """Return the memory for a benchmark; benchmarks that embed alike share it."""
        embedding = {name: getattr(benchmark, name) for name in EMBEDDING}
        return cls(
            benchmark=BenchmarkConfig(**embedding),
            image_root=image_root,
            max_bad_fraction=benchmark.max_bad_fraction,
        )

    def modules_named(self) -> set[str]:
        """Return only the embedder's modules: nothing is proposed, named or scored here."""
        return modules_named(self.benchmark.embedder, [EMBEDDERS])

    @property
    def device(self) -> str:
        """The device it runs on."""
        return self.benchmark.device


class ScoresConfig(Config):
    """The scores of a finished benchmark, as rows."""

    arm: str = Field("original", description="name of the model in the comparison")
    resamples: int = Field(1000, ge=10, description="bootstrap draws of images")
    level: float = Field(0.95, gt=0, lt=1, description="confidence level of the intervals")
    seed: int = Field(0, ge=0, description="seed of the draws")


class TuneConfig(Config):
    """A search for the ensemble weight and the mask threshold."""

    section: ClassVar[str] = "benchmarks"

    arm: str = Field("original", description="name of the model in the comparison")
    benchmark: BenchmarkConfig = Field(
        BenchmarkConfig(), description="the split it is searched on, and how"
    )
    weights: tuple[float, ...] = Field((0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9), min_length=1)
    thresholds: tuple[float, ...] = Field((0.35, 0.4, 0.45, 0.5), min_length=1)
    metric: Literal["miou_union", "miou_gt", "fwiou", "macc", "pacc"] = "miou_union"
    split: Literal["training", "validation"] = "training"
    max_bad_fraction: float = bad_share("images that may be missing or broken")

    @property
    def device(self) -> str:
        """The device it runs on."""
        return self.benchmark.device


class CurveConfig(Config):
    """The learning curve of an arm: share of ground-truth masks named correctly, by step."""

    arm: str = Field(description="name of the model in the comparison")
    benchmark: BenchmarkConfig = Field(description="whose masks are named")
    limit: int | None = Field(None, ge=1, description="the first n images; defaults to all")

    @property
    def scored(self) -> BenchmarkConfig:
        """The benchmark cut to the first images."""
        limits = [limit for limit in (self.benchmark.limit, self.limit) if limit is not None]
        return self.benchmark.model_copy(update={"limit": min(limits, default=None)})
