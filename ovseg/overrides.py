"""Settings as a person writes them: `--set name=value`, and options that stand for several.

overrides = parse_settings(["arms.epochs=3", "pairing.template=a {}"])
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ovseg.errors import OvsegError
from ovseg.json_files import parse_json

PLACES: Mapping[str, tuple[str, ...]] = {
    "checkpoint": (
        "pairing.clip",
        "arms.clip",
        "benchmarks.clip",
        "proposals.maskformer",
        "benchmarks.maskformer",
    ),
    "clip": ("pairing.clip", "arms.clip", "benchmarks.clip"),
    "maskformer": ("proposals.maskformer", "benchmarks.maskformer"),
    "parser": ("nouns.parser",),
    "device": ("proposals.device", "pairing.device", "arms.device", "benchmarks.device"),
    "dataset": ("images.dataset", "pairing.dataset"),
    "captions_format": ("images.captions_format",),
    "limit": ("images.limit",),
    "tracking": ("tracking_uri",),
    "data": ("data",),
    "benchmark": ("scored",),
    "system": ("benchmarks.system",),
    "labels": ("proposals.labels",),
    "source": ("sources",),
}
"""The settings that an option stands for."""


def spread(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that stand for several settings (`clip`, `device`, ...), as settings."""
    return {place: value for name, value in options.items() for place in PLACES[name]}


def parse_fractions(text: str | None, option: str) -> tuple[float, ...] | None:
    """`"0.5,0.6"` as numbers within 0..1; None where nothing is given.

    Raises:
        OvsegError: where one is not such a number.
    """
    if text is None:
        return None
    try:
        values = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 1 for value in values):
        raise OvsegError(f"{option} {text!r}: give numbers from 0 to 1, as 0.5,0.6,0.7")
    return values


def parse_setting(text: str) -> tuple[str, Any]:
    """`"pairing.min_margin=0.01"` as name and value; the value is read as JSON, else as text.

    Raises:
        OvsegError: where there is no `=`; for JSON that no setting can be: nested too deep, with a
            key twice, with NaN or a number beyond what a float holds.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        part = "value" if name else "name"
        raise OvsegError(f"setting {text!r:.80} has no {part}: write name=value")
    try:
        return name, parse_json(value)
    except json.JSONDecodeError:
        return name, value
    except ValueError as error:
        raise OvsegError(f"setting {name:.80}: {error}; text is put into quotes") from error


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Several, by name.

    Raises:
        OvsegError: for what `parse_setting` refuses, or one that is given two values.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, value = parse_setting(text)
        if name in settings and settings[name] != value:
            raise OvsegError(f"setting {name:.80} is given twice, with two values: leave one out")
        settings[name] = value
    return settings
