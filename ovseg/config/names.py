"""Names that settings give, looked up before a run begins: mining first would take hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ovseg.config.registry import (
    EMBEDDERS,
    FORMATS,
    METHODS,
    PROMPTINGS,
    PROPOSERS,
    SEGMENTS,
    SOURCES,
    TEMPLATES,
    check_name,
)
from ovseg.config.run import PipelineConfig

REGISTRIES: Mapping[str, Mapping[str, object]] = {
    "images.captions_format": FORMATS,
    "proposals.source": SOURCES,
    "proposals.segments": SEGMENTS,
    "arms.trains": METHODS,
    "benchmarks.proposals": PROPOSERS,
    "benchmarks.segments": SEGMENTS,
    "benchmarks.prompting": PROMPTINGS,
    "benchmarks.templates": TEMPLATES,
    "benchmarks.embedder": EMBEDDERS,
}
"""The names that a setting may have, by its dotted name."""
UNNAMED = {"images.captions_format": "auto"}
"""What leaves the choice to the program."""


def check_names(config: PipelineConfig) -> None:
    """Look up every name that a run is set to; imports none of what it stands for.

    Raises:
        OvsegError: for a name there is not; the message says which there are.
    """
    for setting, registry in REGISTRIES.items():
        for name in _values(config, setting):
            if name != UNNAMED.get(setting):
                check_name(registry, name, setting=setting)


def _values(config: PipelineConfig, setting: str) -> Iterator[str]:
    """What a setting is in each of the stages that have it."""
    stage, _, field = setting.partition(".")
    return (getattr(each, field) for each in stages_of(config, stage))


def stages_of(config: PipelineConfig, name: str) -> list[Any]:
    """The configurations that settings of a name set: one, or those of a list or of all arms."""
    found = getattr(config, name)
    if isinstance(found, dict):
        found = [phase for phases in found.values() for phase in phases]
    return list(found) if isinstance(found, tuple | list) else [found]
