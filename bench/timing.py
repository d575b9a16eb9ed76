"""Timing of a call: the median of several runs after a warm-up."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds(call: Callable[[], object], *, runs: int = 5) -> float:
    """Return the median wall-clock seconds of `call`, with the GPU's queue drained."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])
