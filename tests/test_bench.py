"""The benchmarks of speed start by their names, and a wrong name says which there are."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from bench.__main__ import BENCHMARKS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_has_something_to_run(name):
    assert callable(import_module(f"bench.{name}").main)


def test_a_wrong_name_is_one_line():
    words = [sys.executable, "-m", "bench", "nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "no benchmark named nonsense: nouns" in done.stderr
