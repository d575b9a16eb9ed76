"""Pixels by class over the label maps of a set, and doubts about their numbering.

A class without pixels, or a set in which no pixel counts, is not damage to any one file, so nothing
else would report it: the score would silently leave classes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovseg.data.benchmarks.label_maps import Labels

NAMED = 5
"""Classes that a note names, before the number of the others."""
WHOLE = 100
"""Images from which on a class without pixels says something about the whole set."""


@dataclass
class LabelCounts:
    """Pixels by class of some label maps.

    Attributes:
        names: names of the K classes.
        pixels: `(K,)` int64.
        ignored: number of pixels that do not count.
        maps: number of label maps.
    """

    names: Sequence[str]
    pixels: NDArray[np.int64] = field(init=False)
    ignored: int = 0
    maps: int = 0

    def __post_init__(self) -> None:
        """Start at zero."""
        self.pixels = np.zeros(len(self.names), dtype=np.int64)

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> LabelCounts:
        """Count the kept rows of a table `PREPARED`."""
        counts = cls(names)
        for row in (row for row in rows if row["kept"]):
            counts.maps += 1
            counts.ignored += row["width"] * row["height"]
            for each in row["class_pixels"]:
                counts.pixels[each["class_id"]] += each["pixels"]
                counts.ignored -= each["pixels"]
        return counts

    def add(self, labels: Labels) -> None:
        """Count a label map; values outside 0..K-1 are ignored."""
        inside = labels[(labels >= 0) & (labels < len(self.names))]
        self.pixels += np.bincount(inside, minlength=len(self.names))
        self.ignored += labels.size - inside.size
        self.maps += 1

    @property
    def nothing(self) -> str | None:
        """Why the set measures nothing; None if any pixel counts, or no map was read."""
        if self.pixels.any() or not self.maps:
            return None
        s = "" if self.maps == 1 else "s"
        return (
            f"no pixel of {self.maps} label map{s} counts: none is a class's number,"
            f" 0 to {len(self.names) - 1}"
        )

    @property
    def absent(self) -> str | None:
        """Which classes have no pixel in any map; None if all have some."""
        names = [name for name, pixels in zip(self.names, self.pixels) if not pixels]
        if not names or not self.pixels.any():
            return None
        if len(names) == 1:
            return f"class {names[0]!r} has no pixel in any label map"
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        examples = ", ".join(repr(name) for name in names[:NAMED])
        return f"{len(names)} of {len(self.names)} classes have no pixel: {examples}{more}"


def doubts(
    counts: LabelCounts, values: Sequence[int], others: int | None, dropped: Sequence[str]
) -> tuple[str, ...]:
    """Return reasons to doubt that label maps have their owner's numbering.

    Args:
        counts: counts of the whole set.
        values: the stored value of each class.
        others: the highest value of a class in other numberings; None if there are none.
        dropped: the reasons of images that were left out.
    """
    unknown = [reason for reason in dropped if reason.endswith("is none of the classes")]
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} images hold values that the owner never stores, the first:"
            f" {unknown[0]};"
            " are the label maps numbered otherwise? Then every class is another one"
        )
    stored = np.asarray(values)
    if others is not None and counts.maps >= WHOLE and counts.pixels.any():
        beyond = stored > others
        if beyond.any() and not counts.pixels[beyond].any():
            notes.append(
                f"no pixel is stored above {others}, where the owner has {int(beyond.sum())}"
                " classes; are the label maps numbered otherwise? Then every class is another one"
            )
    return tuple(notes)
