"""Formatting of numbers and tables for Markdown, the terminal and the report's page.

    for line in markdown_table([["model", "mIoU, %"], ["original CLIP", percent(0.228)]]):
        print(line)

Fractions are shown in percent and differences of them in points, with one decimal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

LEGEND = (
    "GT masks: share of ground-truth masks named correctly. mIoU: mean over the classes in ground"
    " truth or prediction; mIoU (GT): over the classes in ground truth"
)
"""Definitions of the scores, without a final period."""


def percent(value: float | None, *, places: int = 1, sign: str = "", undefined: str = "-") -> str:
    """Return a fraction in percent, without the percent sign.

    Args:
        value: the fraction, or a difference of two.
        places: number of decimals.
        sign: `+` for a sign before positive numbers too.
        undefined: text for None and NaN.
    """
    if value is None or math.isnan(value):
        return undefined
    # rounded first and 0 added, so that there is no -0.0
    return f"{round(100 * value, places) + 0.0:{sign}.{places}f}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval in percent, `[58.1, 65.5]`; a bound that is not defined is `?`."""
    return f"[{percent(low, undefined='?')}, {percent(high, undefined='?')}]"


def thousands(value: float) -> str:
    """Return a count with thousands separators: 12,345."""
    return f"{value:,.0f}"


def seeds_in_words(number: int) -> str:
    """Return `1 seed` or `3 seeds`."""
    return "1 seed" if number == 1 else f"{number} seeds"


def markdown_table(rows: Sequence[Sequence[str]], *, text: int = 1) -> Iterator[str]:
    """Yield the lines of a Markdown table.

    Args:
        rows: the first is the head.
        text: number of text columns from the left; the others are right-aligned.
    """
    head, *body = rows
    yield "|" + "".join(f" {name} |" if name else " |" for name in head)
    yield "|" + " --- |" * text + " ---: |" * (len(head) - text)
    for row in body:
        yield "| " + " | ".join(row) + " |"
