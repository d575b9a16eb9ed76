"""Configuration: one frozen model per stage, each with a digest.

A `...Settings` class holds what a run sets for a stage; `None` means *as models* or *as execution*.
The stage takes the `...Config` derived from it, in which every value is set.

A field marked `execution` (paths, devices, batch sizes of pure inference, worker counts, tolerated
bad items) says how a stage is run, not what it computes: it stays out of the digest and the
manifest. Presets live in `ovseg.config.presets`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ovseg.config.registry import Registry, modules_named

PairSource = Literal["mined", "gt_label", "gt_noun"]
Precision = Literal["fp32", "bf16"]
RegionStyle = Literal["mean", "zero", "box", "attenuated_box", "image", "attenuated_image"]
C = TypeVar("C", bound="Config")
BETA = "share of the image that the attenuated styles keep outside the mask"


def execution(default: Any, description: str, **limits: Any) -> Any:
    """Return a field that says how a stage is run and does not change its result.

    Args:
        default: its default value.
        description: what it is.
        limits: `ge`, `le` and the like, as for pydantic's `Field`.
    """
    extra: dict[str, Any] = {"execution": True}
    return Field(default, description=description, json_schema_extra=extra, **limits)


def later(default: Any, description: str, **limits: Any) -> Any:
    """Return a field that is part of the digest only if it differs from its default.

    Use it for a setting added after results were published: results at its default keep their
    digests, which rows of published tables name.

    Args:
        default: its default value, with which results are as before.
        description: what it is.
        limits: `ge`, `le` and the like, as for pydantic's `Field`.
    """
    return Field(default, description=description, json_schema_extra={"later": True}, **limits)


DEVICES = "auto, cpu, cuda, cuda:1, mps"
AS_MODELS = "defaults to that of models"
AS_EXECUTION = "defaults to that of execution"


def bad_share(what: str) -> Any:
    """Return the field for the share of bad items that a stage tolerates.

    Args:
        what: the items, and what may be wrong with them.
    """
    return execution(0.05, f"share of {what}; more stop the stage", ge=0, le=1)


class Config(BaseModel):
    """A frozen stage configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _execution_fields(self) -> dict[str, Any]:
        """Return the execution fields, nested ones too, in the form of pydantic's `exclude`."""
        fields: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("execution"):
                fields[name] = True
            elif inner := _nested_execution_fields(getattr(self, name)):
                fields[name] = inner
        return fields

    def result_fields(self) -> dict[str, Any]:
        """Return the fields that determine the result, as JSON values."""
        return self.model_dump(mode="json", exclude=self._left_out())

    def _left_out(self) -> dict[str, Any]:
        """Return the execution fields and this configuration's `later` fields at their defaults."""
        fields = self._execution_fields()
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            is_later = isinstance(extra, dict) and extra.get("later")
            if is_later and getattr(self, name) == field.default:
                fields[name] = True
        return fields

    def execution_fields(self) -> dict[str, Any]:
        """Return the fields that do not affect the result, as JSON values."""
        return self.model_dump(mode="json", include=self._execution_fields())

    def digest(self) -> str:
        """Return 16 hex digits over the fields that determine the result."""
        text = json.dumps(self.result_fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def filled(self, stage: type[C], **shared: Any) -> C:
        """Return the configuration of a stage from these settings and the shared ones.

        Args:
            stage: its class, which has fields of the same names.
            shared: values for fields that are not set here; names the stage does not have are
                ignored.
        """
        fields = stage.model_fields
        own = {name: getattr(self, name) for name in type(self).model_fields if name in fields}
        defaults = {name: value for name, value in shared.items() if own.get(name) is None}
        return stage(**{**own, **{name: defaults[name] for name in defaults if name in fields}})

    def modules_named(self) -> set[str]:
        """Return the modules of the registry entries that the settings name, nested ones too."""
        modules: set[str] = set()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if registries := [each for each in field.metadata if isinstance(each, Registry)]:
                modules |= modules_named(value, registries)
            for inner in (value, *(member for _, member in _members(value))):
                if isinstance(inner, Config):
                    modules |= inner.modules_named()
        return modules


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the members of a tuple, list or dict by index or key; none for anything else."""
    if isinstance(value, tuple | list):
        return enumerate(value)
    return value.items() if isinstance(value, dict) else ()


def _nested_execution_fields(value: Any) -> dict[Any, Any]:
    """Return the execution fields of a configuration, or of those in a tuple, list or dict."""
    if isinstance(value, Config):
        return value._execution_fields()
    fields = {key: _nested_execution_fields(member) for key, member in _members(value)}
    return {key: inner for key, inner in fields.items() if inner}
