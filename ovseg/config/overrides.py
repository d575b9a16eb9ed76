"""Parsing of settings that a person types: `--set name=value`, and options for several settings.

overrides = parse_settings(["arms.epochs=3", "mining.pairing.template=a {}"])
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from ovseg.config.base import Config
from ovseg.config.renamed import renamed
from ovseg.errors import OvsegError
from ovseg.files.access import check_text
from ovseg.files.json_files import parse_json

PLACES: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("models.clip", "models.maskformer"),
    "clip": ("models.clip",),
    "maskformer": ("models.maskformer",),
    "parser": ("models.parser",),
    "device": ("models.device",),
    "dataset": ("data.dataset",),
    "captions_format": ("data.captions_format",),
    "limit": ("data.limit",),
    "tracking": ("tracking.uri",),
    "data": ("data.prepared",),
    "benchmark": ("data.scored",),
    "system": ("benchmarks.system",),
    "labels": ("data.labels",),
    "source": ("mining.sources",),
}
"""The settings that an option stands for."""


def spread(options: Mapping[str, Any]) -> dict[str, Any]:
    """Convert options that stand for settings (`clip`, `device`, ...) to those settings."""
    return {place: value for name, value in options.items() for place in PLACES[name]}


def parse_fractions(text: str | None, option: str) -> tuple[float, ...] | None:
    """Parse `"0.5,0.6"` as numbers within 0..1; None if there is no text.

    Raises:
        OvsegError: a value is not such a number.
    """
    if text is None:
        return None
    try:
        values = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 1 for value in values):
        raise OvsegError(f"{option} {text!r}: give numbers from 0 to 1, such as 0.5,0.6,0.7")
    return values


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the name and the value of `"mining.pairing.min_margin=0.01"`.

    The value is read as JSON if possible, otherwise as text.

    Raises:
        OvsegError: the `=` is missing, or the JSON is nested too deep, repeats a key, or holds NaN
            or a number too large for a float.
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
        raise OvsegError(f"setting {name:.80}: {error}; put text in quotes") from error


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Parse several settings into a mapping from name to value.

    Raises:
        OvsegError: see `parse_setting`; or a setting has two values.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, value = parse_setting(text)
        if name in settings and settings[name] != value:
            raise OvsegError(f"setting {name:.80} has two different values: leave one out")
        settings[name] = value
    return settings


DEEPEST = 16
"""Deepest nesting of lists and objects in a setting; `arms` has three."""


def check_value(value: Any, name: str, depth: int = 0) -> None:
    """Reject numbers of more than 64 bits, nesting beyond `DEEPEST`, and text not in UTF-8."""
    if isinstance(value, str | Path):
        try:
            check_text(str(value))
        except OvsegError as error:
            raise OvsegError(f"setting {name}: {error}") from error
    if isinstance(value, int) and abs(value) >= 2**63:
        raise OvsegError(f"setting {name}: the number has more than 64 bits")
    if isinstance(value, Mapping | tuple | list):
        if depth == DEEPEST:
            raise OvsegError(f"setting {name}: nested more than {DEEPEST} deep")
        for inner in [*value, *value.values()] if isinstance(value, Mapping) else value:
            check_value(inner, name, depth + 1)


def in_words(error: ValidationError) -> str:
    """Return the first error in a configuration, on one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "value_error":
        return f"setting {where}: {first['msg']} (got {first['input']!r:.80})"
    rule = first["msg"].removeprefix("Value error, ")  # our own, mostly about several settings
    names_itself = not where or f"{first['loc'][0]}." in rule
    return rule if names_itself else f"setting {where}: {rule}"


def _members(annotation: Any) -> Iterator[type[Config]]:
    """Yield the configurations in an annotation such as `dict[str, tuple[X, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for part in get_args(annotation):
        yield from _members(part)


def check_known(model: type[Config], path: str, value: Any) -> None:
    """Reject a dotted name that is not a setting.

    Args:
        model: the configuration of a run.
        path: the name, which may lead through lists that a preset leaves empty.
        value: its value; a whole section is set by an object.

    Raises:
        OvsegError: giving the new name if the setting was renamed.
    """
    known = _known(model, path.split("."))
    now = renamed(path)
    if now and _known(model, now.split(".")) and not (known and isinstance(value, Mapping)):
        raise OvsegError(f"setting {path:.80} is now called {now:.80}")
    if not known:
        raise OvsegError(f"no setting named {path!r:.80}: `ovseg settings` lists them all")


def _known(model: type[Config], path: list[str]) -> bool:
    """Whether a dotted name leads to a field, even through lists that a preset leaves empty."""
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    rests = (
        [path[1:], path[2:]] if path[0] == "arms" else [path[1:]]
    )  # with or without an arm's name
    return len(path) == 1 or any(
        _known(member, rest) for member in _members(field.annotation) for rest in rests if rest
    )


def assign(values: Any, path: list[str], value: Any, whole: str) -> None:
    """Set one dotted field in nested dicts, tuples of dicts and dicts of tuples."""
    if isinstance(values, tuple | list):
        for item in values:
            assign(item, path, value, whole)
    elif not isinstance(values, dict):  # a plain value, or a stage missing from this preset
        raise OvsegError(f"no setting named {whole!r}: `ovseg settings` lists them all")
    elif path[0] not in values:
        if not values or not all(isinstance(item, tuple | list) for item in values.values()):
            raise OvsegError(f"no setting named {whole!r}: `ovseg settings` lists them all")
        for item in values.values():  # arms: name to list of phases
            assign(item, path, value, whole)
    elif len(path) == 1:
        values[path[0]] = value
    else:
        assign(values[path[0]], path[1:], value, whole)


def settings(config: Config, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield every setting of a configuration as (dotted name, value as JSON, description).

    Lists of stages and the phases of the arms are represented by their first member, under the
    dotted name that sets all of them.
    """
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, dict):
            value = tuple(phase for phases in value.values() for phase in phases)
        if isinstance(value, tuple) and value and isinstance(value[0], Config):
            value = value[0]
        if isinstance(value, Config):
            yield from settings(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, default=str)
            yield f"{prefix}{name}", text, field.description or ""
