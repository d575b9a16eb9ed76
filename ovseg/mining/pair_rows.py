"""What every row of the pair table has, whatever its source: its image, its id, its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ovseg.storage import digest_json

Row = dict[str, Any]

OF_IMAGE = ("image_id", "image_path", "image_sha256", "image_phash", "width", "height")
"""The columns a pair has of its image."""


def complete(rows: Iterable[Row], of_shard: Mapping[str, Any]) -> list[Row]:
    """The rows of a shard with what is the same all over it and their ids, in order.

    Args:
        rows: without those columns.
        of_shard: source, dataset, round and what else is the same of every row.
    """
    found = [{**row, **of_shard} for row in rows]
    for row in found:
        row["pair_id"] = pair_id(row)
    return sorted(found, key=lambda row: (row["image_id"], row["noun"] or ""))


def pair_id(row: Mapping[str, Any]) -> str:
    """16 hex digits over the table's grain and the mask."""
    counts = row.get("mask_counts")
    mask = [row.get("mask_size"), counts.decode("ascii") if counts is not None else None]
    grain = [row[name] for name in ("source", "dataset", "round", "image_id", "noun")]
    return digest_json([*grain, *mask])[:16]


def pair_stats(rows: Sequence[Row], *, images: int, without_nouns: int) -> dict[str, Any]:
    """What a shard of pairs adds up to; reasons without their details."""
    dropped = Counter(str(row["drop_reason"]).partition(":")[0] for row in rows if not row["kept"])
    return {
        "images": images,
        "images_without_nouns": without_nouns,
        "pairs": len(rows),
        "kept": sum(row["kept"] for row in rows),
        "mutual_best": sum(bool(row.get("mutual_best")) for row in rows),
        "dropped": dict(sorted(dropped.items())),
    }
