"""How one image is segmented, outside of a benchmark: settings of `benchmarks` and nothing else.

    config = segmenting({"benchmarks.system": "san", "benchmarks.clip": "checkpoints/mine"})
    segmentor = load_segmentor(config, ["moon", "tree", "sea"])

`ovseg segment`, `ovseg.load_segmentor` and the benchmarks build what they segment with alike.
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
"""Settings of a benchmark that say nothing of how one image is segmented."""


OTHERS = "others"
"""The rival of a single class name: without one, every pixel would be of that class."""


def segmenting(settings: Mapping[str, Any]) -> BenchmarkConfig:
    """How images are segmented outside of a benchmark, at the networks' own sizes by default.

    Args:
        settings: those of `benchmarks`, by dotted name; `benchmarks.system` stands for others.

    Raises:
        OvsegError: for what `RunConfig.replaced`, `check_names` and `check_heard` refuse, and
            for settings that only a benchmark has.
    """
    for name in settings:
        stage, _, field = name.partition(".")
        if stage != "benchmarks" or field in ELSEWHERE:
            raise OvsegError(
                f"setting {name:.80} has no effect on one image: give settings of benchmarks that"
                " say how it is segmented"
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
