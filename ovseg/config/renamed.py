"""Old names of settings, kept for one release.

An old name that a person types is rejected with the new name; a benchmark's settings stored in a
registered model or in the manifest of its scores are read under their new names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RENAMED: Mapping[str, str] = {
    "tracking_uri": "tracking.uri",
    "curve_images": "tracking.curve_images",
    "mining_world": "data.mining_world",
    "benchmark_world": "data.benchmark_world",
    "panoptic": "data.panoptic",
    "data": "data.prepared",
    "scored": "data.scored",
    "sources": "mining.sources",
    "images": "data",
    "images.image_root": "data.images",
    "screening": "mining.screening",
    "nouns": "mining.nouns",
    "proposals": "mining.proposals",
    "proposals.labels": "data.labels",
    "proposals.image_root": "data.images",
    "pairing": "mining.pairing",
    "pairing.dataset": "data.dataset",
    "pairing.source": "mining.sources",
    "pairing.round": "mining.round",
    "pairing.image_root": "data.images",
    "arms.image_root": "data.images",
    "arms.picture_size": "arms.image_size",
    "arms.cache_regions": "arms.input",
    "arms.cache_gib": "arms.input",
    "benchmarks.picture_size": "benchmarks.image_size",
    "benchmarks.retrieval_neighbours": "benchmarks.retrieval_neighbors",
}
"""Old dotted name to new, for settings and whole sections."""


def renamed(name: str) -> str | None:
    """Return the new name of a setting; None if it was not renamed.

    Args:
        name: dotted, such as `pairing.min_margin`; it may include the name of an arm.
    """
    section, _, rest = name.partition(".")
    if section == "arms" and rest.count(".") == 1:  # arms.both.epochs
        arm, _, field = rest.partition(".")
        now = RENAMED.get(f"arms.{field}")
        return now.replace("arms.", f"arms.{arm}.", 1) if now else None
    if name in RENAMED:
        return RENAMED[name]
    if rest and section in RENAMED and section != "data":  # formerly a folder, now a section
        return f"{RENAMED[section]}.{rest}"
    return None


def translated(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings of a stage under their new names.

    Args:
        section: their section, such as `benchmarks`.
        values: stored name to value.
    """
    return {
        RENAMED.get(f"{section}.{name}", f"{section}.{name}").removeprefix(f"{section}."): value
        for name, value in values.items()
    }
