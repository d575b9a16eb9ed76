"""The figures of one GPU in a file of JSON, written one by one, and how they are measured.

    part = Results(path, "auto", tiny=False).part("naming", until=deadline)
    part.measure("eager", lambda: {"images/s": 3.2})

A figure that the file has is not measured again, nor is one that would begin too late.
"""

from __future__ import annotations

import gc
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.figures import commit, machine
from ovseg.models.devices import resolve_device

PEAKS = {
    r"H200 NVL": 836,
    r"H200": 989,
    r"H100 NVL": 836,
    r"H100 PCIe": 756,
    r"H100": 989,
    r"A100": 312,
    r"L4\b": 121,
    r"RTX 4090\b(?! D)": 165,
}
"""Dense bfloat16 TFLOP/s with float32 sums, by the name of a device, from its maker's tables."""
Values = dict[str, Any]


def peak(device_name: str) -> float | None:
    """Return the FLOP/s a device has at most in bfloat16; None for one that is not known."""
    for pattern, teraflops in PEAKS.items():
        if re.search(pattern, device_name):
            return teraflops * 1e12
    return None


class Results:
    """A file of figures by part.

    Args:
        path: the file; what it has of this device and these shapes is kept.
        device: a torch device, or `auto`.
        tiny: whether shapes are tiny.
    """

    def __init__(self, path: Path, device: str, *, tiny: bool) -> None:
        self.path, self.device = path, resolve_device(device)
        self.on_gpu = self.device.startswith("cuda")
        self.device_name = torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"
        origin = {"device": self.device_name, "tiny": tiny}
        self.content: Values = {**origin, "peak_bf16": peak(self.device_name), "parts": {}}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if {name: found.get(name) for name in origin} != origin:
                sys.exit(f"{path} has figures of {found.get('device')}: give another --out")
            self.content = found
        self.facts = {"commit": commit(), "machine": machine()}

    def part(self, name: str, *, until: float) -> Part:
        """Return a part whose figures begin before a time of the monotonic clock."""
        values = self.content["parts"].setdefault(name, {"finished": False, "figures": {}})
        return Part(self, name, values, until)

    def failed(self) -> list[str]:
        """Return the parts and figures that failed."""
        found = []
        for name, part in self.content["parts"].items():
            found += [name] if "failed" in part else []
            found += [f"{name}/{key}" for key, each in part["figures"].items() if "failed" in each]
        return found

    def save(self) -> None:
        """Write the file, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"{self.path.name}.tmp-{os.getpid()}")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.path)


class Part:
    """The figures of one part."""

    def __init__(self, results: Results, name: str, values: Values, until: float) -> None:
        self.results, self.name, self.values, self.until = results, name, values, until
        self.device, self.on_gpu = results.device, results.on_gpu
        self.left_out: list[str] = []

    @property
    def finished(self) -> bool:
        """Whether every figure was measured, or cannot be."""
        return bool(self.values["finished"])

    def measure(self, key: str, figure: Callable[[], Values]) -> None:
        """Measure a figure and write it, unless it is there or the part's time is over.

        Args:
            key: its name.
            figure: measures it; the peak memory of the call is added.
        """
        figures = self.values["figures"]
        if "failed" not in figures.get(key, {"failed": ""}):
            return
        if time.monotonic() >= self.until:
            self.left_out.append(key)
            return
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        try:
            values = figure()
        except torch.OutOfMemoryError:
            values = {"out_of_memory": True}  # what this device cannot do is a figure, too
        except ModuleNotFoundError as error:
            values = {"skipped": f"the package {error.name} is missing"}
        except Exception as error:  # the others are still measured
            values = {"failed": f"{type(error).__name__}: {error}"[:400]}
        memory = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.on_gpu else None
        took = round(time.perf_counter() - began, 2)
        measured = {**_rounded(values), "peak_gib": _rounded(memory), "took_s": took}
        figures[key] = {**measured, **self.results.facts}
        self.results.save()
        print(f"  {key}: {json.dumps(measured)}", flush=True)

    def rates(
        self,
        call: Callable[[], object],
        items: int,
        unit: str,
        *,
        seconds: float,
        flops: float | None = None,
    ) -> Values:
        """Time a call several times.

        Args:
            call: what is timed, after one run to warm up.
            items: how many things it processes.
            unit: what they are.
            seconds: time for all runs, of which there are at least 2 and at most 20.
            flops: floating-point operations of the call, for its share of the device's peak.

        Returns:
            Items per second from the median, and with `flops` the TFLOP of an item and the share.
        """
        self._run(call)
        times: list[float] = []
        while len(times) < 2 or (sum(times) < seconds and len(times) < 20):
            times.append(self._run(call))
        rate = items / statistics.median(times)
        values: Values = {f"{unit}/s": rate, "runs": len(times)}
        if flops is not None:
            most = self.results.content["peak_bf16"]
            values["tflop_each"] = flops / items / 1e12
            values["share_of_peak"] = None if most is None else rate * flops / items / most
        return values

    def _run(self, call: Callable[[], object]) -> float:
        began = time.perf_counter()
        call()
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def skip(self, reason: str) -> None:
        """Note why the part cannot be measured here; another call does not try again."""
        self.values.update(finished=True, skipped=reason)
        self.results.save()
        print(f"  skipped: {reason}")

    def fail(self, error: Exception) -> None:
        """Note an error; another call tries again."""
        self.values["failed"] = f"{type(error).__name__}: {error}"[:400]
        self.results.save()
        print(f"  {self.values['failed']}", file=sys.stderr)

    def finish(self) -> None:
        """Note that all was measured, or what there was no time for."""
        self.values.pop("failed", None)
        failed = any("failed" in each for each in self.values["figures"].values())
        self.values["finished"] = not failed and not self.left_out
        self.values["left_out"] = self.left_out
        self.results.save()
        if self.left_out:
            print(f"  no time for {', '.join(self.left_out)}: run it again")


def count_flops(call: Callable[[], object]) -> float:
    """Count the floating-point operations of a call: matrix products, convolutions, attention."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one kernel would not be counted
    try:
        with FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return float(counter.get_total_flops())


def _rounded(value: Any) -> Any:
    """Return values with four significant digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
