"""Selection of the benchmarks a run scores: the preset's that have a folder, or those named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkSettings
from ovseg.errors import OvsegError


def with_benchmarks(config: RunConfig) -> RunConfig:
    """Return the run with the benchmarks that exist.

    These are the ones named in `data.scored`; by default those of the preset's that are the
    embedded world's own, have a root already, or have a folder of their name in `data.prepared`.

    Raises:
        OvsegError: `data.prepared` has none of the preset's, or a named one is missing.
    """
    folder = config.data.prepared
    if folder is None:
        own = tuple(item for item in config.benchmarks if _has_folder(config, item))
        return config.model_copy(update={"benchmarks": own})
    if config.data.scored:
        named = _named(config, folder.resolve())
        world = config.changed("data", benchmark_world=None)
        return world.model_copy(update={"benchmarks": named})
    benchmarks = tuple(
        item
        if _has_folder(config, item)
        else item.model_copy(update={"root": folder.resolve() / item.benchmark})
        for item in config.benchmarks
        if _has_folder(config, item) or (folder.resolve() / item.benchmark).is_dir()
    )
    if all(item.root is None or item in config.benchmarks for item in benchmarks):
        names = ", ".join(item.benchmark for item in config.benchmarks) or "none"
        raise OvsegError(
            f"--data {folder} has none of the benchmarks of preset {config.preset} ({names}):"
            f" `ovseg prepare NAME --root SOURCE --out {folder}` makes one, --benchmark names"
            " another"
        )
    return config.model_copy(update={"benchmarks": benchmarks})


def _has_folder(config: RunConfig, item: BenchmarkSettings) -> bool:
    """Whether a benchmark has a folder already, or is the embedded world's, which is drawn."""
    drawn = item.benchmark == "storybook" and config.data.benchmark_world is not None
    return drawn or item.root is not None


def _named(config: RunConfig, folder: Path) -> tuple[BenchmarkSettings, ...]:
    """Return the benchmarks of `data.scored`; one not in the preset is scored like its first."""
    own = {item.benchmark: item for item in config.benchmarks}
    like = config.benchmarks[0] if config.benchmarks else BenchmarkSettings()
    plain: dict[str, Any] = {"seen": (), "seen_split": ""}  # these refer to the other's classes
    for name in config.data.scored:
        if name in ("", ".", "..") or "/" in name:
            raise OvsegError(
                f"--benchmark {name!r} is not the name of a folder of --data {config.data.prepared}"
            )
        if not (folder / name).is_dir():
            raise OvsegError(
                f"--data {config.data.prepared} has no folder {name}: `ovseg prepare {name} --root"
                f" SOURCE --out {config.data.prepared}` makes one from a published data set, or"
                " name an existing one"
            )
    return tuple(
        own.get(name, like.model_copy(update={**plain, "benchmark": name})).model_copy(
            update={"root": folder / name}
        )
        for name in dict.fromkeys(config.data.scored)
    )
