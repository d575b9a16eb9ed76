"""Settings of a run's data: images, their captions and labels, prepared benchmarks.

`DataConfig` holds a run's settings; the stages take `ImagesConfig`, `ScreeningConfig`, ...
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ovseg.config.base import AS_EXECUTION, Config, bad_share, execution
from ovseg.config.registry import FORMATS, READERS
from ovseg.files.locations import LocalPath, Place


class WorldConfig(Config):
    """The embedded storybook world written to disk in COCO format."""

    part: Literal["pretrain", "mining", "val"] = Field(
        description="which disjoint range of scene seeds"
    )
    scenes: int = Field(400, ge=1, description="how many scenes")
    size: int = Field(160, ge=64, description="side of a scene in pixels")
    seed: int = Field(0, ge=0, description="offset inside the part's range of scene seeds")


class ListingSettings(Config):
    """Selection of images and captions, and how they are read."""

    section: ClassVar[str] = "data"

    dataset: str = Field("storybook", description="name of the data set in every table")
    captions: Place | None = execution(None, "captions file or folder, a path or a URL")
    captions_format: Annotated[str, FORMATS] = Field(
        "auto", description="a name in ovseg.config.registry.FORMATS; auto goes by the file's name"
    )
    path_column: str | None = Field(
        None, description="column of file names in a table; defaults to one with a usual name"
    )
    caption_column: str | None = Field(
        None, description="column of captions in a table; defaults to one with a usual name"
    )
    captions_per_image: int | None = Field(
        None, ge=1, description="the first n captions by id; defaults to all (the paper: 1 or 5)"
    )
    uncaptioned: bool = Field(False, description="keep images without captions, for labels alone")
    limit: int | None = Field(None, ge=1, description="the first n images by id, for trials")
    shard_size: int = Field(2000, ge=1, description="images per shard")
    min_shards: int = Field(8, ge=1, description="cut small sets finer, so that they run sharded")
    max_pixels: int = Field(
        100_000_000, ge=1, le=178_956_970, description="larger images are rejected unread"
    )
    max_bad_fraction: float | None = execution(None, AS_EXECUTION, ge=0, le=1)


class ImagesConfig(ListingSettings):
    """The list of checked images and captions: the source of a mining run."""

    image_root: Place | None = execution(
        None, "folder or URL the captions' file names are relative to"
    )
    max_bad_fraction: float = bad_share("images that may be missing or broken")


class DataConfig(ListingSettings):
    """The data of a run."""

    images: Place | None = execution(None, "folder or URL the captions' file names are relative to")
    labels: LocalPath | None = execution(None, "folder of a labeled set, for ground-truth masks")
    panoptic: LocalPath | None = execution(None, "panoptic ground truth to check the pairs with")
    mining_world: WorldConfig | None = Field(None, description="storybook scenes to mine")
    benchmark_world: WorldConfig | None = Field(None, description="storybook scenes to score on")
    prepared: LocalPath | None = execution(
        None, "folder of prepared benchmarks, each in a subfolder of its name"
    )
    scored: tuple[str, ...] = Field(
        (), description="prepared benchmarks to score, by name; defaults to the preset's"
    )


class FingerprintsConfig(Config):
    """Names and hashes of a benchmark's images, to find them among the mined images."""

    benchmark: Annotated[str, READERS] = Field("storybook", description="name of the benchmark")
    root: LocalPath | None = execution(None, "folder of the prepared benchmark")
    shard_size: int = Field(1000, ge=1, description="images per shard")


class ScreeningConfig(Config):
    """Rules that drop an image because it is in a benchmark, or repeats or resembles another."""

    hash_distance: int | None = Field(
        4,
        ge=0,
        le=8,
        description="images look alike if their perceptual hashes differ in at most this many of"
        " 64 bits; null turns the comparison off",
    )
    near_duplicates: bool = Field(
        False, description="gate: the image looks like an earlier one in the data set"
    )
