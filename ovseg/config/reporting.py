"""Configuration of a run's results: studies, the contact sheet, the report.

There is one frozen model per stage, as in `ovseg.config.base`.
"""

from __future__ import annotations

from pydantic import Field

from ovseg.config.base import Config, execution
from ovseg.config.scoring import BenchmarkConfig
from ovseg.files.locations import Place

CURVE = "curve"
"""Prefix of a learning curve's role among the inputs of a study: `curve/<seed>/<arm>`."""


class Comparison(Config):
    """A comparison of one model with another."""

    better: str = Field(description="the model claimed to be better")
    worse: str = Field(description="the model it is compared with")
    metric: str = Field("miou_union_unseen", description="the score that is compared")
    margin: float = Field(
        0.0, ge=0, lt=1, description="how much worse it may be, as a fraction; 0: must be better"
    )


class Claim(Config):
    """A claim about the models of a study, as comparisons that can be checked."""

    name: str = Field(description="slug")
    text: str = Field(description="the claim in words")
    ways: tuple[tuple[Comparison, ...], ...] = Field(
        min_length=1, description="the claim holds if all comparisons of any of these hold"
    )
    note: str = Field("", description="a remark")


class StudyConfig(Config):
    """Models of a benchmark compared over seeds: the arms of a run, or the cells of an ablation."""

    table: str = Field("", description="name of the ablation; empty for the arms of a run")
    benchmark: str = Field("storybook", description="name of the benchmark")
    arms: tuple[tuple[str, str], ...] = Field(
        description="slugs and display names of the compared models, in order"
    )
    baseline: str = Field("original", description="the arm that gains are measured against")
    favorite: str = Field("both", description="the arm that is compared with every other")
    claims: tuple[Claim, ...] | None = Field(
        None, description="claims to judge; None: gains over the baseline, leads of the favorite"
    )
    resamples: int = Field(1000, ge=10, description="bootstrap draws")
    level: float = Field(0.95, gt=0, lt=1, description="confidence level of the intervals")
    seed: int = Field(0, ge=0, description="seed of the draws")


class SheetConfig(Config):
    """The contact sheet of a run."""

    images: int = Field(6, ge=1, description="rows of each half of the sheet")
    tile: int = Field(224, ge=64, description="side of a tile in pixels")
    benchmark: BenchmarkConfig | None = Field(None, description="whose images are segmented")
    image_root: Place | None = execution(None, "folder of the mined images")


class ReportConfig(Config):
    """The report of a run: one HTML file."""

    preset: str = Field("", description="name of the preset the run began as")
    expect: str = Field("", description="what the preset should reach")
    dataset: str = Field("storybook", description="name of the mined data set")
    clip: str = Field("storybook", description="the CLIP that chose the masks")
    maskformer: str = Field("storybook", description="the network that proposed the masks")
    miniature: bool = Field(False, description="note that the embedded models are scored")
    arms: tuple[tuple[str, str], ...] = Field(
        (), description="slugs and display names of the compared models, in order"
    )
    benchmark: BenchmarkConfig | None = Field(None, description="the benchmark shown in detail")
    nouns: int = Field(80, ge=1, description="nouns in the gallery")
    pairs_per_noun: int = Field(12, ge=1, description="pairs shown per noun")
    segmented: int = Field(6, ge=1, description="segmented benchmark images")
    worst: int = Field(4, ge=0, description="segmented images with the worst scores")
    mistakes: int = Field(12, ge=0, description="misclassified masks that are drawn")
    side: int = Field(176, ge=32, description="longer side of an image of the gallery, pixels")
    picture: int = Field(256, ge=32, description="longer side of a segmentation, pixels")
    image_root: Place | None = execution(None, "folder of the mined images")
