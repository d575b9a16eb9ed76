"""Figures of benchmarks as a file of JSON and as a Markdown table.

A benchmark's `main` may return its figures, one dictionary each:

    {"what": "an epoch", "before": 2.0, "after": 1.0, "unit": "s", "ratio": 2.0, "kind": "setting"}

`ratio` says how many times better the second value is. The file has the figures by benchmark, each
with its own commit, date and machine, so that benchmarks may be run one at a time.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ovseg.stages.threads import cores

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "byte-equal": "the same bytes",
    "tolerance": "equal within a tolerance",
    "setting": "another result, by a setting",
}
"""What a change that is measured does to results, and its name in plots and tables."""
FIELDS = ("what", "before", "after", "unit", "ratio", "kind")

Figure = dict[str, Any]
Stored = dict[str, dict[str, Any]]
"""By benchmark: `commit`, `date`, `machine` and `figures`."""


def commit() -> str:
    """Return the short commit of the code, and whether it was changed since."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    status = [*git, "status", "--porcelain", "--", "ovseg", "bench"]  # docs may hold the figures
    changed = subprocess.run(status, capture_output=True, text=True)
    return (name.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def machine() -> dict[str, Any]:
    """Describe this machine: its cores, processor and GPU (None without one), and torch."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cores": cores(),
        "cpu": _processor(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def checked(figures: object) -> list[Figure]:
    """Return what a benchmark returned as figures; none for one that only prints.

    Raises:
        ValueError: it is not a list of figures.
    """
    if figures is None:
        return []
    if not isinstance(figures, list):
        raise ValueError(f"a benchmark returns a list of figures, not {type(figures).__name__}")
    for figure in figures:
        if not isinstance(figure, dict) or set(figure) != set(FIELDS):
            raise ValueError(f"a figure has {', '.join(FIELDS)}, not {figure!r:.200}")
        if figure["kind"] not in KINDS:
            raise ValueError(f"{figure['what']}: kind must be one of {', '.join(KINDS)}")
        for name in ("before", "after", "ratio"):
            if not (math.isfinite(figure[name]) and figure[name] >= 0):
                raise ValueError(f"{figure['what']}: {name} is {figure[name]}")
        if not figure["ratio"]:
            raise ValueError(f"{figure['what']}: ratio is 0")
    return [
        {name: float(v) if name in ("before", "after", "ratio") else v for name, v in each.items()}
        for each in figures
    ]


def read(path: Path) -> Stored:
    """Read a file of figures; empty if there is none."""
    if not path.is_file():
        return {}
    benchmarks: Stored = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    return benchmarks


def entry(figures: list[Figure], commit: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file has of one benchmark that was measured today."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return {"commit": commit, "date": date, "machine": dict(machine), "figures": figures}


def store(path: Path, name: str, measured: Mapping[str, Any]) -> None:
    """Replace the figures of one benchmark in a file; those of the others are kept.

    Args:
        path: the file, made if it is missing.
        name: the benchmark.
        measured: see `entry`.
    """
    from ovseg.files.publish import publish_text  # which needs pyarrow

    benchmarks = {**read(path), name: measured}
    ordered = {each: benchmarks[each] for each in sorted(benchmarks)}
    publish_text(json.dumps({"benchmarks": ordered}, indent=1) + "\n", path)


def number(value: float) -> str:
    """Return a number to three digits, with commas in thousands."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if value < 10 else 1}f}" if value >= 0.1 else f"{value:.2g}"


def markdown(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table, and below it the machines and commits."""
    lines = [
        "| what | before | after | ratio | results | command |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    for name, entry in stored.items():
        for row in entry["figures"]:
            before, after = (f"{number(row[each])} {row['unit']}" for each in ("before", "after"))
            cells = (row["what"], before, after, f"{number(row['ratio'])} x", KINDS[row["kind"]])
            escaped = (cell.replace("|", "\\|") for cell in cells)
            lines.append(f"| {' | '.join(escaped)} | `python -m bench {name}` |")
    return "\n".join([*lines, "", *_origins(stored.items())])


def _origins(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Say once for benchmarks of one commit, date and machine which they are."""
    alike: dict[str, list[str]] = {}
    for name, entry in entries:
        of = entry["machine"]
        gpu = f", {of['gpu']}" if of["gpu"] else ""
        words = f"commit {entry['commit']}, {entry['date']}; {of['cores']} cores of {of['cpu']}"
        alike.setdefault(f"{words}{gpu}, torch {of['torch']}", []).append(name)
    return [f"{', '.join(names)}: {words}.  " for words, names in alike.items()]
