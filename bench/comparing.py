"""The straightforward way against the project's, each in turn so that both meet the same load."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Figure = dict[str, Any]
"""`what`, `before`, `after`, `unit`, `ratio`, `kind`."""


def compare(
    what: str,
    before: Callable[[], object],
    after: Callable[[], object],
    *,
    kind: str = "byte-equal",
    runs: int = 7,
) -> Figure:
    """Time two ways to the same result, print both and how many times faster the second one is.

    Args:
        what: name of the figure.
        before: the straightforward way.
        after: the project's way.
        kind: `byte-equal`, `tolerance` or `setting`.
        runs: of each; the medians count.

    Returns:
        The figure, in milliseconds.
    """
    times: list[list[float]] = [[], []]
    for _ in range(runs + 1):
        for call, of_call in zip((before, after), times):
            began = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            of_call.append(1000 * (time.perf_counter() - began))
    old, new = (statistics.median(of_call[1:]) for of_call in times)
    print(f"  {what}: {old:8.2f} -> {new:8.2f} ms   {old / new:5.1f} x", flush=True)
    return figure(what, old, new, unit="ms", kind=kind)


def figure(what: str, before: float, after: float, *, unit: str, kind: str) -> Figure:
    """Return a measured figure of which less is better."""
    return {
        "what": what,
        "before": before,
        "after": after,
        "unit": unit,
        "ratio": before / after,
        "kind": kind,
    }
