"""A process is called dead where that is proved, and never by a guess."""

import os
import subprocess
import sys

import pytest

from tasks.process import identity, identity_parts, is_dead

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def changed(**parts: str) -> str:
    names = ("host", "boot", "namespace", "pid", "started")
    return "/".join((dict(zip(names, identity_parts(), strict=True)) | parts).values())


def gone() -> int:
    """The number of a process that was, and is not."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_this_process_lives():
    assert not is_dead(identity())
    assert identity_parts()[3] == str(os.getpid())


def test_a_process_that_has_ended_is_dead_before_anybody_waits_for_it():
    process = subprocess.Popen(
        [sys.executable, "-c", "from tasks.process import identity; print(identity())"],
        stdout=subprocess.PIPE,
        text=True,
    )
    theirs = process.stdout.readline().strip()
    process.stdout.read()  # until it ends; it is a zombie then
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(theirs)
    process.wait()
    assert is_dead(theirs)


def test_another_process_of_the_same_number_is_another_one():
    assert is_dead(changed(started="1"))


def test_a_host_that_was_started_anew_has_none_of_its_old_processes():
    assert is_dead(changed(boot="b5e1a3a4-0000-0000-0000-000000000000"))


@pytest.mark.parametrize(
    "parts",
    [
        {"host": "elsewhere"},
        {"host": "elsewhere", "boot": "b5e1a3a4-0000-0000-0000-000000000000"},
        {"namespace": "pid:[1]"},  # another container: its numbers say nothing here
        {"boot": ""},
        {"pid": "-1"},
        {"pid": "x"},
        {"pid": "٣"},
        {"pid": ""},
    ],
)
def test_what_cannot_be_known_is_not_called_dead(parts):
    assert not is_dead(changed(**{"pid": str(gone()), **parts}))


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d/e", "////", "a" * 10_000, "/" * 50])
def test_what_is_no_identity_is_not_dead(text):
    assert not is_dead(text)
