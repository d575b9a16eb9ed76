"""Configuration of segmenting one image outside a benchmark, from settings of `benchmarks` only.

    config = segmenting({"benchmarks.system": "san", "benchmarks.clip": "checkpoints/mine"})
    segmentor = load_segmentor(config, ["moon", "tree", "sea"])

`ovseg segment`, `ovseg.load_segmentor` and the benchmarks all build their segmentors this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovseg.config.checks import check_heard, check_names
from ovseg.config.data import DataConfig, WorldConfig
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig, BenchmarkSettings
from ovseg.errors import OvsegError

ELSEWHERE = ("benchmark", "root", "limit", "shard_size", "min_shards", "oracle", "max_bad_fraction")
"""Settings of a benchmark that have no effect on how one image is segmented."""


OTHERS = "others"
"""Second class for a single class name: without it, every pixel would get that class."""


def segmenting(settings: Mapping[str, Any]) -> BenchmarkConfig:
    """Return a configuration for images outside a benchmark; sizes default to the networks' own.

    Args:
        settings: those of `benchmarks`, by dotted name; `benchmarks.system` stands for several.

    Raises:
        OvsegError: see `RunConfig.replaced`, `check_names` and `check_heard`; or a setting applies
            only to a benchmark.
    """
    for name in settings:
        stage, _, field = name.partition(".")
        if stage != "benchmarks" or field in ELSEWHERE:
            raise OvsegError(
                f"setting {name:.80} has no effect on one image: give settings of benchmarks that"
                " affect how it is segmented"
            )
    miniature = str(settings.get("benchmarks.clip", "storybook")).startswith("storybook")
    config = RunConfig(
        preset="",
        expect="",
        arms={},
        data=DataConfig(benchmark_world=WorldConfig(part="val") if miniature else None),
        benchmarks=(BenchmarkSettings(short_side=None, max_side=None),),
    ).replaced(settings)
    check_names(config)
    check_heard([config], settings)
    return config.scored[0]
