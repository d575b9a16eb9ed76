"""The inputs of pairing, and the columns that every pair row has whatever its source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ovseg.files.digests import digest_json
from ovseg.stages.stage import Inputs

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image with its nouns (sorted, not yet paired) and its kept proposals."""

    listed: Mapping[str, Any]
    nouns: list[Row]
    proposals: list[Row]
    reason: str | None = None
    """Why the image has no proposal at all, if its row gives a specific reason."""


def shard_jobs(inputs: Inputs, shard: int) -> list[Job]:
    """Return the images of a shard with their distinct kept nouns and kept proposals."""
    mentions = _by_image(inputs["nouns"].shard_table(shard))
    proposed = inputs["proposals"].shard_table(shard)
    proposals, reasons = _by_image(proposed), _without_any(proposed)
    return [
        Job(
            listed=listed,
            nouns=_distinct(mentions.get(listed["image_id"], [])),
            proposals=proposals.get(listed["image_id"], []) if listed["kept"] else [],
            reason=reasons.get(listed["image_id"]),
        )
        for listed in inputs["images"].shard_table(shard).to_pylist()
    ]


def _by_image(table: pa.Table) -> dict[int, list[Row]]:
    """Group the kept rows by image, in order."""
    grouped: dict[int, list[Row]] = {}
    for row in table.filter(table["kept"]).to_pylist():
        grouped.setdefault(row["image_id"], []).append(row)
    return grouped


def _without_any(proposed: pa.Table) -> dict[int, str]:
    """Map each image without any proposal to the reason, such as unusable labels."""
    rows = proposed.filter(pc.equal(proposed["proposal_id"], -1)).to_pylist()
    return {row["image_id"]: row["drop_reason"] for row in rows if row["drop_reason"] != "no_query"}


def _distinct(mentions: list[Row]) -> list[Row]:
    """Return one row per noun, sorted, with all its mentions."""
    grouped: dict[str, list[Row]] = {}
    for mention in sorted(mentions, key=lambda m: (m["caption_id"], m["char_start"])):
        grouped.setdefault(mention["noun"], []).append(mention)
    fields = ("caption_id", "surface", "char_start", "char_end")
    return [
        {
            "noun": noun,
            "mentions": [{field: mention[field] for field in fields} for mention in of_noun],
            "head": of_noun[0]["head"],
            "parser": of_noun[0]["parser"],
        }
        for noun, of_noun in sorted(grouped.items())
    ]


OF_IMAGE = ("image_id", "image_path", "image_sha256", "image_phash", "width", "height")
"""The columns a pair takes from its image."""


def complete(rows: Iterable[Row], of_shard: Mapping[str, Any]) -> list[Row]:
    """Add the shard's constant columns and the pair ids to its rows, and sort them.

    Args:
        rows: rows without those columns.
        of_shard: source, dataset, round and the other columns that are the same in every row.
    """
    completed = [{**row, **of_shard} for row in rows]
    for row in completed:
        row["pair_id"] = pair_id(row)
    return sorted(completed, key=lambda row: (row["image_id"], row["noun"] or ""))


def pair_id(row: Mapping[str, Any]) -> str:
    """Return 16 hex digits that identify the table's grain and the mask."""
    counts = row.get("mask_counts")
    mask = [row.get("mask_size"), counts.decode("ascii") if counts is not None else None]
    grain = [row[name] for name in ("source", "dataset", "round", "image_id", "noun")]
    return digest_json([*grain, *mask])[:16]


def pair_stats(rows: Sequence[Row], *, images: int, without_nouns: int) -> dict[str, Any]:
    """Summarize a shard of pairs; reasons without their details."""
    dropped = Counter(str(row["drop_reason"]).partition(":")[0] for row in rows if not row["kept"])
    return {
        "images": images,
        "images_without_nouns": without_nouns,
        "pairs": len(rows),
        "kept": sum(row["kept"] for row in rows),
        "mutual_best": sum(bool(row.get("mutual_best")) for row in rows),
        "dropped": dict(sorted(dropped.items())),
    }
