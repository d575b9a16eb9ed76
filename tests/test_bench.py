"""The benchmarks of speed start by their names, and their figures are kept, drawn and tabulated."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from bench import figures
from bench.__main__ import BENCHMARKS, module_of
from bench.__main__ import main as run_benchmarks

ROOT = Path(__file__).resolve().parents[1]
FIGURE = {
    "what": "an epoch | of pairs",
    "before": 2000.0,
    "after": 500.0,
    "unit": "ms",
    "ratio": 4.0,
    "kind": "byte-equal",
}


@pytest.fixture
def benchmarks(monkeypatch):
    """Adds a benchmark of this name to those that are run."""
    names = []

    def add(name, main):
        module = ModuleType(f"bench.{name}")
        module.main = main
        names.append(name)
        monkeypatch.setitem(sys.modules, f"bench.{name}", module)
        monkeypatch.setattr("bench.__main__.BENCHMARKS", tuple(names))

    return add


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
    run_benchmarks()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_has_something_to_run(name):
    assert callable(import_module(module_of(name)).main)


def test_a_wrong_name_is_one_line():
    words = [sys.executable, "-m", "bench", "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "no benchmark named nonsense: nouns" in done.stderr


def test_figures_are_kept_with_their_commit_and_machine(benchmarks, monkeypatch, tmp_path, capsys):
    path = tmp_path / "performance" / "bench.json"
    path.parent.mkdir()
    old = {"commit": "abc", "date": "2020-01-01", "machine": {"cores": 1}, "figures": [FIGURE]}
    path.write_text(json.dumps({"benchmarks": {"slow": old, "fast": old}}))
    benchmarks("fast", lambda: [{**FIGURE, "ratio": 5}])
    benchmarks("printing", lambda: print("only a line"))
    run(monkeypatch, "--json", path)
    stored = figures.read(path)
    assert stored["slow"] == old and set(stored) == {"slow", "fast"}
    assert stored["fast"]["figures"] == [{**FIGURE, "ratio": 5.0}]
    assert stored["fast"]["commit"] and stored["fast"]["machine"]["cores"]
    assert {"cpu", "gpu", "torch"} <= set(stored["fast"]["machine"])
    assert "only a line" in capsys.readouterr().out


def test_a_benchmark_that_fails_loses_no_figures_of_others(benchmarks, monkeypatch, tmp_path):
    path = tmp_path / "bench.json"
    benchmarks("broken", lambda: 1 / 0)
    benchmarks("odd", lambda: [{**FIGURE, "kind": "faster"}])
    benchmarks("whole", lambda: [FIGURE])
    with pytest.raises(SystemExit, match="failed: broken, odd"):
        run(monkeypatch, "--json", path, "--plot", tmp_path / "bench.png")
    assert set(figures.read(path)) == {"whole"}
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_stored_figures_are_drawn_and_tabulated(benchmarks, monkeypatch, tmp_path, capsys):
    path, plot = tmp_path / "bench.json", tmp_path / "deeper" / "bench.png"
    kinds = [
        {**FIGURE, "kind": kind, "ratio": ratio} for kind in figures.KINDS for ratio in (0.5, 40)
    ]
    benchmarks("epochs", lambda: kinds)
    benchmarks("texts", lambda: [FIGURE])
    run(monkeypatch, "--json", path)
    capsys.readouterr()
    run(monkeypatch, "--stored", "--json", path, "--markdown", "--plot", plot)
    lines = capsys.readouterr().out.splitlines()
    of_texts = next(line for line in lines if "bench texts" in line)
    assert of_texts == (
        "| an epoch \\| of pairs | 2,000 ms | 500 ms | 4.00 x | the same bytes |"
        " `python -m bench texts` |"
    )
    assert sum("bench epochs" in line for line in lines) == len(kinds)
    assert lines[-1].startswith("epochs, texts: commit ")  # one machine is named once
    assert plot.stat().st_size > 10_000


@pytest.mark.parametrize(
    "returned",
    [
        {"what": "not a list"},
        [{**FIGURE, "ratio": 0}],
        [{**FIGURE, "before": float("nan")}],
        [{key: FIGURE[key] for key in ("what", "ratio")}],
    ],
)
def test_what_is_not_a_figure_is_refused(returned):
    with pytest.raises(ValueError):
        figures.checked(returned)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "0.012"), (0.5, "0.50"), (9.994, "9.99"), (42.0, "42.0"), (1234.5, "1,234")],
)
def test_numbers_have_about_three_digits(value, text):
    assert figures.number(value) == text
