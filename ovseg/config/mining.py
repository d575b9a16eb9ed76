"""Configuration of mining: nouns, proposals, pairs, the published table and its curation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import Field

from ovseg.config.base import (
    AS_EXECUTION,
    AS_MODELS,
    BETA,
    DEVICES,
    Config,
    PairSource,
    Precision,
    RegionStyle,
    bad_share,
    execution,
    later,
)
from ovseg.config.data import ScreeningConfig
from ovseg.config.registry import EMBEDDERS, PROPOSERS, READERS, SEGMENTS, SOURCES
from ovseg.errors import OvsegError
from ovseg.files.locations import LocalPath, ModelName, Place
from ovseg.files.sql_files import curation_file

if TYPE_CHECKING:
    from ovseg.config.run import RunConfig


class NounsSettings(Config):
    """Extraction of nouns from captions."""

    parser: ModelName | None = Field(None, description=f"spaCy pipeline; {AS_MODELS}")
    compounds: bool = Field(True, description="'picket fence' in addition to 'fence'")
    proper_nouns: bool = Field(True, description="PROPN counts as noun, as in NLTK's NN* tags")
    stop_nouns: bool = Field(True, description="drop nouns for nothing visible (a row stays)")
    batch_size: int = execution(256, "captions per batch", ge=1)
    workers: int | None = execution(
        None, "processes that parse many captions; defaults to execution.workers", ge=1
    )


class NounsConfig(NounsSettings):
    """Nouns of captions."""

    parser: ModelName = Field("storybook", description="spaCy pipeline: storybook, package or path")
    workers: int | None = execution(
        1, "processes that parse many captions; None is the number of CPU cores", ge=1
    )


class ProposalsSettings(Config):
    """Mask proposals. Every gate is off by default, as in the paper."""

    section: ClassVar[str] = "mining.proposals"

    source: Annotated[str, SOURCES, PROPOSERS] = Field(
        "maskformer", description="a name in ovseg.config.registry.SOURCES"
    )
    maskformer: ModelName | None = Field(None, description=f"weights of the source; {AS_MODELS}")
    segments: Annotated[str, SEGMENTS] = Field(
        "queries", description="a name in ovseg.config.registry.SEGMENTS: what queries become"
    )
    label_set: Annotated[str, READERS] = Field(
        "", description="benchmark of the ground truth; defaults to the folder's name"
    )
    label_classes: tuple[str, ...] = Field(
        (), description="classes whose masks may be used; defaults to all"
    )
    short_side: int = Field(640, description="images are resized to this short side ...")
    max_side: int = Field(2560, description="... but no longer than this")
    mask_threshold: float = Field(0.5, gt=0, lt=1, description="a pixel is in the mask above this")
    min_score: float | None = Field(None, description="drop proposals scored below")
    min_area_fraction: float | None = Field(None, description="drop masks smaller than this")
    nms_iou: float | None = Field(
        None, description="drop masks whose IoU with a better one is higher"
    )
    precision: Precision | None = Field(
        None, description=f"precision of the forward pass; {AS_MODELS}"
    )
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)
    batch_size: int = execution(8, "images per batch")
    device: str | None = execution(None, AS_MODELS)
    decode_workers: int | None = execution(None, AS_EXECUTION, ge=0)


class ProposalsConfig(ProposalsSettings):
    """Mask proposals."""

    maskformer: ModelName = Field(
        "storybook", description="weights of the source: storybook, a folder or a hub id"
    )
    labels: LocalPath | None = execution(None, "folder of the labeled set, for ground truth")
    precision: Precision = Field("fp32", description="precision of the forward pass")
    max_bad_fraction: float = bad_share("images that may be missing or broken")
    image_root: Place | None = execution(None, "folder of the images")
    device: str = execution("auto", DEVICES)
    decode_workers: int = execution(0, "processes that decode images; 0 decodes in place", ge=0)

    def unlabelled(self) -> dict[str, Any]:
        """Return this source as segmentor settings; a segmentor has no ground-truth masks."""
        source = "maskformer" if self.source == "ground_truth" else self.source
        shared = ("maskformer", "segments", "short_side", "max_side")
        return {"proposals": source, **{name: getattr(self, name) for name in shared}}


class PairingSettings(Config):
    """Pairing of every noun of an image with the proposal that CLIP scores highest."""

    section: ClassVar[str] = "mining.pairing"

    clip: ModelName | None = Field(None, description=AS_MODELS)
    template: str = Field("a photo of a {}", description="text of a noun; {} is the noun")
    embedder: Annotated[str, EMBEDDERS] = later(
        "crops",
        "a name in ovseg.config.registry.EMBEDDERS except pixel_pooling: mask_tokens and"
        " mask_pooling show CLIP the whole image once for all its proposals",
    )
    region: RegionStyle = Field("mean", description="what CLIP sees of a proposal")
    background: float = Field(0.3, ge=0, le=1, description=BETA)
    expand_ratio: float = Field(1.0, ge=1, description="crop box enlargement")
    image_size: int = later(
        0,
        "size in pixels of the whole image for mask_tokens (side of a square; 0: the CLIP's own)"
        " and mask_pooling (short side; 0: 640)",
        ge=0,
    )
    whole_places: bool = later(
        False,
        "mask_pooling counts places that are mostly covered, as in FC-CLIP, and pairs no proposal"
        " without one; otherwise it weights each by the covered share",
    )
    min_similarity: float | None = Field(None, description="gate: cosine of noun and region")
    min_margin: float | None = Field(None, description="gate: best minus second proposal")
    min_proposal_score: float | None = Field(None, description="gate: the proposal's own score")
    min_area_fraction: float | None = Field(None, description="gate: share of the image")
    mutual_best: bool = Field(False, description="gate: the noun is also its proposal's best")
    precision: Precision | None = Field(
        None, description=f"precision of the forward pass; {AS_MODELS}"
    )
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)
    batch_size: int = execution(256, "regions per batch")
    device: str | None = execution(None, AS_MODELS)
    decode_workers: int | None = execution(None, AS_EXECUTION, ge=0)


class PairingConfig(PairingSettings):
    """For every noun of an image, the proposal that CLIP scores highest."""

    dataset: str = Field("storybook", description="name of the data set in the pair table")
    source: Literal["mined", "gt_noun"] = Field("mined", description="source in the pair table")
    round: int = Field(0, ge=0, description="mining round; 0 pairs with the original CLIP")
    clip: ModelName = Field("storybook", description="storybook, a folder or ARCH/pretrained")
    precision: Precision = Field("fp32", description="precision of the forward pass")
    max_bad_fraction: float = bad_share("images that may be missing or broken")
    image_root: Place | None = execution(None, "folder of the images")
    device: str = execution("auto", DEVICES)
    decode_workers: int = execution(0, "processes that decode images; 0 decodes in place", ge=0)


class MiningConfig(Config):
    """Settings of the steps from captions and images to pairs."""

    sources: tuple[PairSource, ...] = Field(
        (), description="pair sources: mined, gt_label, gt_noun; defaults to what curation needs"
    )
    round: int = Field(0, ge=0, description="mining round; 0 pairs with the original CLIP")
    screening: ScreeningConfig = ScreeningConfig()
    nouns: NounsSettings = NounsSettings()
    proposals: ProposalsSettings = ProposalsSettings()
    pairing: PairingSettings = PairingSettings()


class TextsConfig(Config):
    """Text embeddings of the distinct nouns, computed once per noun and model."""

    clip: ModelName = "storybook"
    template: str = "a photo of a {}"
    batch_size: int = execution(512, "texts per batch")
    device: str = execution("auto", DEVICES)


class TableConfig(Config):
    """The published pair table: compacted, totally ordered."""

    dataset: str = "storybook"
    round: int = 0
    source: PairSource = "mined"


class CurationConfig(Config):
    """A training set: a SQL query over the pair table."""

    query: str = Field("paper", description="name of a file in sql/curation, or a path to one")
    sql: str = Field(description="its text, so that the digest covers it")


class TruthConfig(Config):
    """Pairs checked against ground-truth masks."""

    panoptic: LocalPath | None = execution(None, "COCO panoptic JSON, with its PNGs next to it")


def pair_sources(config: RunConfig) -> tuple[PairSource, ...]:
    """Return the pair sources of a run; defaults to those that its curation selects from."""
    return config.mining.sources or curation_sources(config.curation)


def curation_sources(name_or_path: str) -> tuple[PairSource, ...]:
    """Return the pair sources in a curation's header (`Sources:`); defaults to mined.

    Raises:
        OvsegError: the query does not exist, or it names an unknown source.
    """
    file, known = curation_file(name_or_path), get_args(PairSource)
    sources = file.listed("Sources") or ["mined"]
    for source in sources:
        if source not in known:
            raise OvsegError(
                f"{file.path}: unknown pair source {source!r}; name some of"
                f" {', '.join(known)} after Sources:"
            )
    return cast(tuple[PairSource, ...], tuple(sources))


def load_curation(name_or_path: str) -> CurationConfig:
    """Load the curation of that name in `sql/curation`, or from any `.sql` file.

    Raises:
        OvsegError: the file does not exist.
    """
    file = curation_file(name_or_path)
    return CurationConfig(query=file.name, sql=file.text)
