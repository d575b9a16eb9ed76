"""A request resolved once: by the command that checks it, or by the flow that it starts.

A command resolves what it was asked for, to say in a moment what is wrong with it; the flow that
it then starts in the same process is asked for the same and takes what there is. A flow that a
schedule or an event starts resolves its request itself.
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
"""What a flow may be asked for; those that score an imported checkpoint mine nothing."""

_handed: ContextVar[tuple[dict[str, Any], list[RunConfig]] | None] = ContextVar(
    "handed", default=None
)


@contextmanager
def handing(request: Mapping[str, Any], configs: list[RunConfig]) -> Iterator[None]:
    """While inside, `resolved` and `resolved_seeds` give these for this request.

    Args:
        request: what was asked for; `seeds` is among it where there are several.
        configs: what `resolve` or `resolve_seeds` made of it.
    """
    token = _handed.set((_asked(request), configs))
    try:
        yield
    finally:
        _handed.reset(token)


def resolved(preset: str, **request: Any) -> RunConfig:
    """What `resolve` makes of a request, or has made of it already."""
    handed = _of({"preset": preset, **request})
    return resolve(preset, **request) if handed is None else handed[0]


def resolved_seeds(preset: str, **request: Any) -> list[RunConfig]:
    """What `resolve_seeds` makes of a request, or has made of it already."""
    handed = _of({"preset": preset, **request})
    return resolve_seeds(preset, **request) if handed is None else handed


def _of(request: Mapping[str, Any]) -> list[RunConfig] | None:
    handed = _handed.get()
    return None if handed is None or handed[0] != _asked(request) else handed[1]


REQUESTED = ("preset", "root", "captions", "images", "seed", "overrides", "mines", "seeds")


def _asked(request: Mapping[str, Any]) -> dict[str, Any]:
    """What decides on the configurations, without what is left open."""
    given = {name: request.get(name) for name in REQUESTED}
    return {name: value for name, value in given.items() if value not in (None, {}, True)}
