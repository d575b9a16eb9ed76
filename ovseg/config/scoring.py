"""Configuration of what is measured: the segmentor on a benchmark, its scores, tuning and curves.

The names that a setting may have are those of the registries in `ovseg.config.registry`.
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
"""The settings of a benchmark that decide on how a region is embedded."""


class BenchmarkSettings(Config):
    """How images are segmented on a validation set."""

    section: ClassVar[str] = "benchmarks"

    benchmark: Annotated[str, READERS] = Field("storybook", description="name of the benchmark")
    system: str = Field(
        "ovseg",
        description="a name in ovseg.config.systems.SYSTEMS, which stands for other settings",
    )
    clip: ModelName | None = Field(
        None, description=f"CLIP, where no checkpoint is handed in; {AS_MODELS}"
    )
    proposals: Annotated[str, PROPOSERS] = Field(
        "maskformer", description="a name in ovseg.config.registry.PROPOSERS: what proposes masks"
    )
    maskformer: ModelName | None = Field(None, description=f"weights of it; {AS_MODELS}")
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
    contexts: int = Field(6, ge=1, description="of prompting=mined: the n most frequent of a noun")
    contexts_from: LocalPath | None = execution(
        None, "of prompting=mined: folder of a nouns stage; that of the run where empty"
    )
    synonyms: bool = Field(
        False, description="a class gets the logit of the best of its name and listed synonyms"
    )
    relations: float = Field(
        0.0, ge=0, le=1, description="share of its probability a class lends to those like it"
    )
    short_side: int | None = Field(
        640, ge=1, description="images are resized to it; the network's own if empty"
    )
    max_side: int | None = Field(2560, ge=1, description="... but no longer; likewise")
    mask_threshold: float = Field(0.4, gt=0, lt=1, description="of the regions shown to CLIP")
    ensemble_weight: float = Field(
        0.7, ge=0, le=1, description="lambda of the geometric ensemble; 0 is CLIP alone (upstream)"
    )
    seen_weight: float | None = Field(
        None, ge=0, le=1, description="lambda of the seen classes; the same where empty"
    )
    ensemble: Literal["upstream", "geometric", "void", "clip_only", "maskformer_only"] = Field(
        "upstream",
        description="geometric is the formula for every lambda, so that 0 is MaskFormer alone;"
        " void: normalised, times 1 - P(non-object), as FC-CLIP",
    )
    inference: Literal["sum", "best_mask"] = Field(
        "sum",
        description="all proposals under their soft masks; best_mask: one binary mask a class, as"
        " the official demo, and pixels under none count as missed",
    )
    vocabulary: Literal["open", "own"] = Field(
        "open",
        description="own: the MaskFormer's class scores are those of the classes it was trained on,"
        " matched by name; always so where a closed network is asked alone (maskformer_only)",
    )
    segmentor: Literal["proposals", "pixels"] = Field(
        "proposals",
        description="pixels: each pixel by its own embedding (LSeg), without proposals and whatever"
        " is to be done with them, such as an ensemble",
    )
    pixels: ModelName = execution(
        "",
        "folder of the pixel embeddings, for segmentor=pixels and embedder=pixel_pooling;"
        " storybook-lseg is trained where it is asked for",
    )
    embedder: Annotated[str, EMBEDDERS] = Field(
        "crops", description="a name in ovseg.config.registry.EMBEDDERS"
    )
    retrieval_weight: float = Field(
        0.0, ge=0, le=1, description="of the nearest mined regions' nouns beside CLIP's own answer"
    )
    retrieval_neighbors: int = Field(16, ge=1, description="regions that vote")
    mask_prompts: bool = Field(True, description="use mask prompts where the CLIP has them")
    region: RegionStyle = Field("mean", description="what CLIP sees of a proposal")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    expand_ratio: float = Field(1.0, ge=1)
    image_size: int = Field(
        0,
        ge=0,
        description="of the whole image that mask_tokens (side of a square) and mask_pooling"
        " (short side) see, pixels; 0: the CLIP's own, and the benchmark's short_side",
    )
    whole_places: bool = Field(
        False,
        description="mask_pooling counts the places that are mostly covered, as FC-CLIP, and drops"
        " masks without one; else each by the covered share",
    )
    oracle: Literal["none", "gt_masks", "gt_labels"] = Field(
        "none",
        description="gt_masks: ground truth is the proposals, CLIP names them; gt_labels: the"
        " proposals get the classes of ground truth",
    )
    seen: tuple[str, ...] = Field((), description="classes whose masks were used in training")
    trained_on: tuple[str, ...] = Field(
        (),
        description="or: vocabularies whose masks were; classes that share a name or a listed"
        " synonym with one of theirs are seen",
    )
    seen_split: ModelName = Field(
        "",
        description="a published split, scored beside it: 156-15 of coco-stuff-171, 15-5 of voc-20,"
        " coco-stuff of ade20k-150; or the path of a .tsv",
    )
    limit: int | None = Field(None, ge=1, description="the first n images, for trials")
    shard_size: int = Field(500, ge=1, description="images a shard")
    min_shards: int = Field(2, ge=1)
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)
    root: LocalPath | None = execution(None, "folder of the prepared benchmark")
    batch_size: int = execution(256, "regions a batch")
    device: str | None = execution(None, AS_MODELS)

    @model_validator(mode="after")
    def _reject_ineffective(self) -> BenchmarkSettings:
        """Refuse settings that others would silence."""
        asked = {
            "oracle=gt_labels": self.oracle == "gt_labels",
            "retrieval_weight": self.retrieval_weight > 0,
            "relations": self.relations > 0,
            "seen_weight": self.seen_weight is not None,
            "inference=best_mask": self.inference == "best_mask",
        }
        unheard = [name for name, is_asked in asked.items() if is_asked]
        if self.segmentor == "pixels" and unheard:
            raise ValueError(
                "benchmarks.segmentor=pixels proposes no masks, and"
                f" benchmarks.{unheard[0]} needs some: take benchmarks.segmentor=proposals"
            )
        if self.ensemble == "maskformer_only" and self.retrieval_weight:
            raise ValueError(
                "benchmarks.retrieval_weight is of regions' votes beside CLIP's, which"
                " benchmarks.ensemble=maskformer_only does not ask: set one of them otherwise"
            )
        return self


class BenchmarkConfig(BenchmarkSettings):
    """The two-stage segmentor on a validation set."""

    clip: ModelName = Field("storybook", description="CLIP, where no checkpoint is handed in")
    maskformer: ModelName = Field(
        "storybook", description="weights of it: for maskformer storybook, a folder or a hub id"
    )
    max_bad_fraction: float = bad_share("images or retrieved regions that may be bad")
    device: str = execution("auto", DEVICES)

    def without_memory(self) -> BenchmarkConfig:
        """The same without retrieval, where no mined regions are at hand: pictures."""
        return self.model_copy(update={"retrieval_weight": 0.0})


class MemoryConfig(Config):
    """Mined regions embedded as a benchmark embeds its proposals."""

    section: ClassVar[str] = "benchmarks"

    benchmark: BenchmarkConfig = Field(description="what decides on the embedding counts")
    image_root: Place | None = execution(None, "folder of the images")
    max_bad_fraction: float = bad_share("pairs that may be unusable")

    @classmethod
    def of(cls, benchmark: BenchmarkConfig, image_root: Location | None) -> MemoryConfig:
        """The memory for a benchmark: equal for all that embed alike."""
        kept = {name: getattr(benchmark, name) for name in EMBEDDING}
        return cls(
            benchmark=BenchmarkConfig(**kept),
            image_root=image_root,
            max_bad_fraction=benchmark.max_bad_fraction,
        )

    def modules_named(self) -> set[str]:
        """Those of the embedder: nothing is proposed, named or scored here."""
        return modules_named(self.benchmark.embedder, [EMBEDDERS])

    @property
    def device(self) -> str:
        """Where it runs."""
        return self.benchmark.device


class ScoresConfig(Config):
    """The scores of a finished benchmark, as rows."""

    arm: str = Field("original", description="name of the model in the comparison")
    resamples: int = Field(1000, ge=10, description="bootstrap draws of images")
    level: float = Field(0.95, gt=0, lt=1, description="of the intervals")
    seed: int = Field(0, ge=0, description="of the draws")


class TuneConfig(Config):
    """A search for ensemble weight and mask threshold."""

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
        """Where it runs."""
        return self.benchmark.device


class CurveConfig(Config):
    """The learning curve of an arm: ground-truth masks named rightly after so many steps."""

    arm: str = Field(description="name of the model in the comparison")
    benchmark: BenchmarkConfig = Field(description="whose masks are named")
    limit: int | None = Field(None, ge=1, description="the first n images; all where empty")

    @property
    def scored(self) -> BenchmarkConfig:
        """The benchmark cut to the first images."""
        limits = [limit for limit in (self.benchmark.limit, self.limit) if limit is not None]
        return self.benchmark.model_copy(update={"limit": min(limits, default=None)})
