"""Resolves a request once per process: a command hands its configurations to the flow it starts.

A command resolves its request first, to report errors at once. The flow that it starts in the same
process gets the same request and reuses the result. A flow started by a schedule or an event
resolves its request itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from ovseg.config.request import resolve, resolve_seeds
from ovseg.config.run import RunConfig

Preset = Literal["storybook", "paper", "gated"]
ScoringPreset = Literal["storybook", "paper", "gated", "ovseg-swinb-vitl14", "ovseg-r101c-vitb16"]
"""Presets of a flow; those that score an imported checkpoint mine nothing."""

_handed: ContextVar[tuple[dict[str, Any], list[RunConfig]] | None] = ContextVar(
    "handed", default=None
)


@contextmanager
def handing(request: Mapping[str, Any], configs: list[RunConfig]) -> Iterator[None]:
    """Have `resolved` and `resolved_seeds` return these for this request within the block.

    Args:
        request: the request, with `seeds` if there are several.
        configs: its configurations from `resolve` or `resolve_seeds`.
    """
    token = _handed.set((_key(request), configs))
    try:
        yield
    finally:
        _handed.reset(token)


def resolved(preset: str, **request: Any) -> RunConfig:
    """Return the configuration of a request, from `handing` if it was resolved already."""
    configs = _handed_configs({"preset": preset, **request})
    return resolve(preset, **request) if configs is None else configs[0]


def resolved_seeds(preset: str, **request: Any) -> list[RunConfig]:
    """Return the configurations of a request, from `handing` if it was resolved already."""
    configs = _handed_configs({"preset": preset, **request})
    return resolve_seeds(preset, **request) if configs is None else configs


def _handed_configs(request: Mapping[str, Any]) -> list[RunConfig] | None:
    handed = _handed.get()
    return None if handed is None or handed[0] != _key(request) else handed[1]


REQUESTED = ("preset", "root", "captions", "images", "seed", "overrides", "mines", "seeds")


def _key(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a request that decide on the configurations, without defaults."""
    parts = {name: request.get(name) for name in REQUESTED}
    defaults = {"overrides": {}, "mines": True}
    return {
        name: value
        for name, value in parts.items()
        if value is not None and not (name in defaults and value == defaults[name])
    }
