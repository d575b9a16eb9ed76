"""Configuration of what compares images with one another and with those of benchmarks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ovseg.config import Config, execution
from ovseg.locations import LocalPath
from ovseg.registry import READERS


class FingerprintsConfig(Config):
    """The images of a benchmark by name and hash, to be found among those that are mined."""

    benchmark: Annotated[str, READERS] = Field("storybook", description="name of the benchmark")
    root: LocalPath | None = execution(None, "folder of the prepared benchmark")
    shard_size: int = Field(1000, ge=1, description="images a shard")


class ScreeningConfig(Config):
    """What drops an image because of others: it is in a benchmark, repeats one, resembles one."""

    hash_distance: int | None = Field(
        4,
        ge=0,
        le=8,
        description="images look alike whose perceptual hashes differ in at most so many of 64"
        " bits; empty where looks shall not count",
    )
    near_duplicates: bool = Field(
        False, description="gate: the image looks like one before it in the data set"
    )
