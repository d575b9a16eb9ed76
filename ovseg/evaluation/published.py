"""Results as their authors published them, from `published.tsv`: rows to hold ours against.

A method's protocol is not always known: where its source does not say over which classes mIoU is a
mean, the metric is `miou` and the denominator empty. Fractions, as all scores here.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ovseg.data.published import PUBLISHED

FILE = Path(__file__).with_name("published.tsv")


def read_published() -> list[dict[str, Any]]:
    """Rows of `ovseg.schema.PUBLISHED_RESULTS`; what the source does not say is None."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        rows = [*csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return [
        {
            **{name: text or None for name, text in row.items()},
            "value": float(row["value"]),
            "images": PUBLISHED[row["benchmark"]].images,
        }
        for row in rows
    ]
