"""The harness sees what a target must not do; a fuzzer that cannot fail would prove nothing."""

import contextlib

import pytest
from hypothesis import strategies as st

from ovseg.errors import OvsegError
from tests.fuzz.harness import Forbidden, Hang, fuzzed, mutated

ANY = st.integers(0, 3)


def explore(target, tmp_path, monkeypatch, **bounds):
    fuzzed(ANY, **bounds)(target)(tmp_path, monkeypatch)


def test_what_is_documented_passes(tmp_path, monkeypatch):
    seen = []

    def refuses(case, folder):
        assert not list(folder.iterdir()), "each case has an empty folder"
        (folder / "written").write_text("x")
        seen.append(case)
        raise OvsegError("no")

    explore(refuses, tmp_path, monkeypatch)
    assert set(seen) == {0, 1, 2, 3}


def test_another_error_is_seen(tmp_path, monkeypatch):
    def fails(case, folder):
        raise KeyError(case)

    with pytest.raises(KeyError):
        explore(fails, tmp_path, monkeypatch)


def test_a_file_outside_is_seen_and_not_written(tmp_path, monkeypatch):
    outside = tmp_path / "outside"

    def writes(case, folder):
        with contextlib.suppress(Exception):
            outside.write_text("x")

    with pytest.raises(Forbidden, match="outside"):
        explore(writes, tmp_path, monkeypatch)
    assert not outside.exists()


@pytest.mark.parametrize("act", ["mkdir", "rename", "unlink", "process", "connect"])
def test_other_ways_out_are_seen(act, tmp_path, monkeypatch):
    import socket
    import subprocess

    kept = tmp_path / "kept"
    kept.write_text("x")

    def acts(case, folder):
        match act:
            case "mkdir":
                (tmp_path / "made").mkdir()
            case "rename":
                kept.rename(folder / "taken")
            case "unlink":
                kept.unlink()
            case "process":
                subprocess.run(["true"], check=True)
            case "connect":
                socket.create_connection(("127.0.0.1", 9), timeout=1)

    with pytest.raises(Forbidden):
        explore(acts, tmp_path, monkeypatch)
    assert kept.read_text() == "x"


def test_a_hang_is_seen(tmp_path, monkeypatch):
    def hangs(case, folder):
        while True:
            pass

    with pytest.raises(Hang):
        explore(hangs, tmp_path, monkeypatch, seconds=0.2)


def test_memory_is_bounded(tmp_path, monkeypatch):
    def grows(case, folder):
        bytearray(600 * 2**20)

    with pytest.raises(MemoryError):
        explore(grows, tmp_path, monkeypatch, mebibytes=256)


def test_mutations_keep_some_of_what_is_valid():
    from hypothesis import find

    valid = [b"{'a': [1, 2, 3]}", b"text"]
    assert find(mutated(valid), lambda case: case == valid[0]) == valid[0]
    assert find(mutated(valid), lambda case: case not in valid and b"a" in case)
