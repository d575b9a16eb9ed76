"""Names that settings give, looked up before a run begins: mining first would take hours.

The registries stand in modules that load torch, so that only what a run changes of its preset is
looked up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name

from ovseg.registry import chosen
from ovseg.settings import PipelineConfig

REGISTRIES = {
    "images.captions_format": "ovseg.data.captions:FORMATS",
    "proposals.source": "ovseg.mining.proposal_sources:SOURCES",
    "proposals.segments": "ovseg.models.segments:SEGMENTS",
    "arms.trains": "ovseg.training.groups:METHODS",
    "benchmarks.proposals": "ovseg.models.proposers:PROPOSERS",
    "benchmarks.segments": "ovseg.models.segments:SEGMENTS",
    "benchmarks.prompting": "ovseg.models.prompting:PROMPTINGS",
    "benchmarks.templates": "ovseg.models.prompts:TEMPLATES",
    "benchmarks.embedder": "ovseg.models.embedders:EMBEDDERS",
}
"""Module and dict of the names that a setting may have, by its dotted name."""


def check_names(config: PipelineConfig, usual: PipelineConfig) -> None:
    """Look up every name that a run changes of its preset.

    Args:
        config: of the run.
        usual: the preset as it is, whose names are right.

    Raises:
        OvsegError: for a name there is not; the message says which there are.
    """
    for setting, registry in REGISTRIES.items():
        right = set(_values(usual, setting))
        for name in _values(config, setting):
            if name not in right:
                chosen(resolve_name(registry), name, setting=setting)


def _values(config: PipelineConfig, setting: str) -> Iterator[str]:
    """What a setting is in each of the stages that have it, also in phases of the arms."""
    stage, _, field = setting.partition(".")
    found = getattr(config, stage)
    if isinstance(found, dict):
        found = [phase for phases in found.values() for phase in phases]
    for each in found if isinstance(found, tuple | list) else [found]:
        yield getattr(each, field)
