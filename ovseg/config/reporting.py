"""Configuration of what a run says of itself: studies, the contact sheet, the report.

As in `ovseg.config.base`, one frozen model a stage.
"""

from __future__ import annotations

from pydantic import Field

from ovseg.config.base import Config, execution
from ovseg.config.scoring import BenchmarkConfig
from ovseg.files.locations import Place

CURVE = "curve"
"""First part of the role of a learning curve among the inputs of a study: `curve/<seed>/<arm>`."""


class Comparison(Config):
    """One model held against another."""

    better: str = Field(description="the model that is said to be better")
    worse: str = Field(description="the model it is held against")
    metric: str = Field("miou_union_unseen", description="by which score")
    margin: float = Field(
        0.0, ge=0, lt=1, description="how much worse it may be, as a fraction; 0: it is better"
    )


class Claim(Config):
    """What is claimed of the models of a study, as comparisons that can be checked."""

    name: str = Field(description="slug")
    text: str = Field(description="the claim in words")
    ways: tuple[tuple[Comparison, ...], ...] = Field(
        min_length=1, description="it holds if all comparisons of one of these hold"
    )
    note: str = Field("", description="what else is to be said of it")


class StudyConfig(Config):
    """Models of a benchmark compared over seeds: the arms of a run, or the cells of an ablation."""

    table: str = Field("", description="name of the ablation; empty for the arms of a run")
    benchmark: str = Field("storybook", description="name of the benchmark")
    arms: tuple[tuple[str, str], ...] = Field(
        description="names of the compared models in order, and what is shown of them"
    )
    baseline: str = Field("original", description="the arm that gains are measured against")
    favourite: str = Field("both", description="the arm that is held against every other")
    claims: tuple[Claim, ...] | None = Field(
        None, description="what is judged; None: gains over the baseline, leads of the favourite"
    )
    resamples: int = Field(1000, ge=10, description="bootstrap draws")
    level: float = Field(0.95, gt=0, lt=1, description="of the intervals")
    seed: int = Field(0, ge=0, description="of the draws")


class SheetConfig(Config):
    """The contact sheet of a run."""

    images: int = Field(6, ge=1, description="rows of each half of the sheet")
    tile: int = Field(224, ge=64, description="side of a picture in pixels")
    benchmark: BenchmarkConfig | None = Field(None, description="whose images are segmented")
    image_root: Place | None = execution(None, "folder of the mined images")


class ReportConfig(Config):
    """The report of a run: one HTML file."""

    preset: str = Field("", description="name of the preset the run began as")
    expect: str = Field("", description="what the preset should reach")
    dataset: str = Field("storybook", description="name of the mined data set")
    clip: str = Field("storybook", description="the CLIP that chose the masks")
    maskformer: str = Field("storybook", description="what proposed the masks")
    miniature: bool = Field(False, description="the embedded models are scored: say so")
    arms: tuple[tuple[str, str], ...] = Field(
        (), description="names of the compared models in order, and what is shown of them"
    )
    benchmark: BenchmarkConfig | None = Field(None, description="the one that is looked into")
    nouns: int = Field(80, ge=1, description="nouns of the gallery")
    pairs_per_noun: int = Field(12, ge=1, description="pairs shown of each")
    segmented: int = Field(6, ge=1, description="benchmark images that are segmented")
    worst: int = Field(4, ge=0, description="worst images that are segmented")
    mistakes: int = Field(12, ge=0, description="masks named wrongly that are drawn")
    side: int = Field(176, ge=32, description="longer side of an image of the gallery, pixels")
    picture: int = Field(256, ge=32, description="longer side of a segmentation, pixels")
    image_root: Place | None = execution(None, "folder of the mined images")
