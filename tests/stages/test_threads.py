"""Stages compute with one thread of torch, whatever the machine: their bytes depend on it."""

import json
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
import torch

from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files.parquet_files import write_parquet
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import run_stage, stage_folder
from ovseg.stages.stage import Output, Stage
from ovseg.stages.threads import VARIABLE, fixed_threads, torch_threads

ROOT = Path(__file__).resolve().parents[2]


class Sum(Stage[Config]):
    """Reports the threads it is computed with, in its own thread and in one that it starts."""

    name = "sum"
    seen: ClassVar[list[int]] = []

    def plan(self, config, inputs):
        return ShardPlan.single("x")

    def write(self, config, inputs, target, *, shard, progress):
        other = threading.Thread(target=lambda: self.seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        self.seen.append(torch.get_num_threads())
        write_parquet(pa.table({"a": [0]}), target)
        return Output(rows=1)


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    """What a person set, and gets back."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    Sum.seen.clear()
    yield
    torch.set_num_threads(before)


def test_a_stage_is_computed_with_one_thread_which_run_json_says(tmp_path: Path):
    done = run_stage(Sum(), Config(), {}, tmp_path)
    assert Sum.seen == [1, 1]
    assert torch.get_num_threads() == 3
    assert json.loads((done.folder / "run.json").read_text())["torch_threads"] == 1


def test_another_number_is_another_result(tmp_path: Path, monkeypatch):
    folders = {}
    for text in (None, "1", "2", "4"):
        if text is not None:
            monkeypatch.setenv(VARIABLE, text)
        folders[text] = run_stage(Sum(), Config(), {}, tmp_path).folder
    assert folders[None] == folders["1"]
    assert len(set(folders.values())) == 3
    assert Sum.seen == [1, 1, 2, 2, 4, 4]
    assert torch.get_num_threads() == 3
    assert json.loads((folders["4"] / "run.json").read_text())["torch_threads"] == 4


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5", "9999", "1" * 6000, "٣", " 1"])
def test_a_number_that_is_none_is_one_line(tmp_path: Path, monkeypatch, text: str):
    monkeypatch.setenv(VARIABLE, text)
    for call in (torch_threads, lambda: stage_folder(Sum(), Config(), {}, tmp_path)):
        with pytest.raises(OvsegError, match=r"must be a number of threads from 1 to 1024"):
            call()


def test_the_setting_comes_back_when_the_last_of_several_leaves():
    """Also when an error leaves first; shards of a task runner overlap."""
    entered, leave = threading.Event(), threading.Event()
    seen = []

    def overlap() -> None:
        with fixed_threads():
            entered.set()
            leave.wait(30)
            seen.append(torch.get_num_threads())

    other = threading.Thread(target=overlap)
    with pytest.raises(ZeroDivisionError), fixed_threads():
        other.start()
        assert entered.wait(30)
        raise ZeroDivisionError
    new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    new.start()  # while the other one still computes
    new.join()
    assert os.environ["OMP_NUM_THREADS"] == "1"
    leave.set()
    other.join()
    assert seen == [1, 1]
    torch.set_num_threads(3)
    with fixed_threads(), fixed_threads():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


LATE = """
import sys
from ovseg.stages.threads import fixed_threads
with fixed_threads():
    assert "torch" not in sys.modules
    import torch
    inside = torch.get_num_threads()
import os
print(inside, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
"""


def test_torch_that_is_imported_within_starts_with_one_thread():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.split() == ["1", "2", "2"]


@pytest.mark.slow
def test_the_chain_leaves_the_same_bytes_whatever_the_number_of_threads(tmp_path: Path):
    """Mining, training and scoring with the shipped models, on what claims to be 1, 2, 4 cores."""
    found = {}
    for number in (1, 2, 4):
        environment = {**os.environ, "OMP_NUM_THREADS": str(number)}
        environment.pop(VARIABLE, None)
        command = [sys.executable, "tests/chain.py", str(tmp_path / str(number)), "8"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        found[number] = json.loads(done.stdout.splitlines()[-1])
    assert found[1]["threads"] == 1 and found[1]["steps"] >= 3
    assert found[2]["threads"] > 1, "the setting of before did not come back"
    assert found[1]["digests"] == found[2]["digests"] == found[4]["digests"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_the_next_array():
    program = (
        "import resource, numpy as np\n"
        "from ovseg.stages.threads import fixed_threads\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "with fixed_threads():\n"
        "    np.ones(2**23)\n"
        "    before = faults()\n"
        "    for _ in range(10): np.ones(2**23)\n"
        "print(faults() - before)"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert int(made.stdout) < 1000  # of ten arrays of 16,384 pages
