"""What the label maps of a set amount to: pixels by class, and what their values give away.

A class without a pixel, or a set of which nothing counts, is no damage of any one file, so nothing
else would say it: the score would leave the class out, or stand on other classes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovseg.data.benchmarks.label_maps import Labels

NAMED = 5
"""Classes that a note names; the number of the others follows."""
WHOLE = 100
"""Images of a set from which on a class without a pixel says something about all of it."""


@dataclass
class LabelCounts:
    """Pixels by class of some label maps.

    Attributes:
        names: of the K classes.
        pixels: `(K,)` int64.
        ignored: pixels that do not count.
        maps: how many label maps.
    """

    names: Sequence[str]
    pixels: NDArray[np.int64] = field(init=False)
    ignored: int = 0
    maps: int = 0

    def __post_init__(self) -> None:
        """Begin at nothing."""
        self.pixels = np.zeros(len(self.names), dtype=np.int64)

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> LabelCounts:
        """Those of rows of the table `PREPARED`; rows that were dropped count for nothing."""
        counts = cls(names)
        for row in (row for row in rows if row["kept"]):
            counts.maps += 1
            counts.ignored += row["width"] * row["height"]
            for each in row["class_pixels"]:
                counts.pixels[each["class_id"]] += each["pixels"]
                counts.ignored -= each["pixels"]
        return counts

    def add(self, labels: Labels) -> None:
        """Count a label map; what is not in 0..K-1 does not count."""
        inside = labels[(labels >= 0) & (labels < len(self.names))]
        self.pixels += np.bincount(inside, minlength=len(self.names))
        self.ignored += labels.size - inside.size
        self.maps += 1

    @property
    def nothing(self) -> str | None:
        """Why the set measures nothing; None where some pixel counts, or no map was read."""
        if self.pixels.any() or not self.maps:
            return None
        s = "" if self.maps == 1 else "s"
        return (
            f"no pixel of {self.maps} label map{s} counts: none is a class's number,"
            f" 0 to {len(self.names) - 1}"
        )

    @property
    def absent(self) -> str | None:
        """Which classes have no pixel in any map; None where all have some."""
        names = [name for name, pixels in zip(self.names, self.pixels) if not pixels]
        if not names or not self.pixels.any():
            return None
        if len(names) == 1:
            return f"class {names[0]!r} has no pixel in any label map"
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        shown = ", ".join(repr(name) for name in names[:NAMED])
        return f"{len(names)} of {len(self.names)} classes have no pixel: {shown}{more}"


def doubts(
    counts: LabelCounts, values: Sequence[int], others: int | None, dropped: Sequence[str]
) -> tuple[str, ...]:
    """What makes it doubtful that label maps are numbered as their owner numbers them.

    Args:
        counts: of the whole set.
        values: the stored value of each class.
        others: the highest value of a class in other numberings; None where there are none.
        dropped: the reasons of images that were left out.
    """
    found = [reason for reason in dropped if reason.endswith("is none of the classes")]
    notes = []
    if found:
        notes.append(
            f"{len(found)} images hold values that the owner never stores, the first: {found[0]};"
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
