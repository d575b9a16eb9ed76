"""What the rows of an images table add up to."""

from __future__ import annotations

from collections import Counter
from typing import Any

_USABLE = ("no_caption", "in_benchmark", "duplicate_of", "near_duplicate_of")
"""Reasons to drop an image with whose file nothing is wrong."""


class ListingStats:
    """What a shard's rows add up to. `n` are the images somebody captioned, `bad` the unusable."""

    def __init__(self) -> None:
        self.n = self.captions = self.captions_not_used = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.first_bad: str | None = None

    def add(self, row: dict[str, Any], *, not_used: int = 0) -> None:
        """Count a row; `not_used` are its captions beyond `captions_per_image`."""
        self.captions += len(row["captions"])
        self.captions_not_used += not_used
        self.kept += row["kept"]
        self.n += row["drop_reason"] != "no_caption"
        if row["kept"]:
            return
        reason = row["drop_reason"].partition(":")[0]
        self.dropped[reason] += 1
        if reason not in _USABLE and self.first_bad is None:
            self.first_bad = f"{row['image_path'] or row['image_id']}: {reason}"

    def as_dict(self) -> dict[str, Any]:
        """The counts by name."""
        return {
            "n": self.n,
            "bad": sum(n for reason, n in self.dropped.items() if reason not in _USABLE),
            "first_bad": self.first_bad,
            "images": self.n + self.dropped["no_caption"],
            "images_without_captions": self.dropped["no_caption"],
            "kept": self.kept,
            "captions": self.captions,
            "captions_not_used": self.captions_not_used,
            "dropped": {k: n for k, n in sorted(self.dropped.items()) if n},
        }
