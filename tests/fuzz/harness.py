"""Fuzzing: a target takes any input and answers or refuses, as documented; nothing else may happen.

    @fuzzed(st.binary(max_size=200) | mutated(VALID), raises=(OvsegError,))
    def test_read(case, folder):
        path = folder / "input.bin"
        path.write_bytes(case)
        read(path)

is a slow test of 500 cases, the same in every run; `make fuzz` tries 10,000 other ones of each.
`folder` is the working folder, emptied before each case. A case fails the test if the target

- raises anything but `raises`,
- takes longer than `seconds`, in C code too (the whole process is then ended with a traceback),
- asks for more than `mebibytes` of memory beyond what the process had,
- writes, renames, or removes a file outside of `folder` and the temporary folder, starts a process,
  or opens a connection,
- leaves anything in the home folder.

Hypothesis shrinks a failing case and prints it. Put it into `seeds` with the fix, so that it stays
tested. Larger seeds are files of `tests/fuzz/corpus/<name>`, read by `corpus`.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ovseg.errors import OvsegError

Case = TypeVar("Case")
CASES = int(os.environ.get("OVSEG_FUZZ_CASES", "500"))
REPEATS = "OVSEG_FUZZ_CASES" not in os.environ
"""The same cases in every run, as a test of a commit has to; `make fuzz` looks for new ones."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # audit events whose first arguments are paths that change
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
    "os.remove": 1,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "shutil.rmtree": 1,
}
REACHES_OUT = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")


class Forbidden(BaseException):
    """A target did what no input may make it do; no `except Exception` swallows it."""


class Hang(BaseException):
    """A case took longer than its target may."""


_allowed: tuple[str, ...] | None = None
"""Folders that may be written to while a case runs; None while none does."""


def _inside(path: object) -> bool:
    if isinstance(path, int):  # an open file's number: it was looked at when it was opened
        return True
    name = os.path.realpath(os.fsdecode(os.fspath(path)))  # type: ignore[call-overload]
    parents = _allowed or ()
    return name == "/dev/null" or any(
        name == parent or name.startswith(parent + os.sep) for parent in parents
    )


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _allowed is None:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = bool(flags & WRITES) if isinstance(flags, int) else set(mode or "r") & set("wax+")
        if writes and not _inside(path):
            raise Forbidden(f"opened {path!r} to write")
    elif event in CHANGES:
        for path in arguments[: CHANGES[event]]:
            if not _inside(path):
                raise Forbidden(f"{event} {path!r}")
    elif event in REACHES_OUT:
        raise Forbidden(f"{event} {arguments[:2]!r}")


_hooked = False


@contextmanager
def _watched(allowed: Sequence[Path], *, seconds: float, mebibytes: int) -> Iterator[None]:
    """Run one case: bounded in time and memory, its changes seen."""
    global _allowed, _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # there is no way to take it away again: it sleeps between cases
        _hooked = True

    def hang(signum: int, frame: object) -> None:
        raise Hang(f"still busy after {seconds:.0f} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * resource.getpagesize() + mebibytes * 2**20
    before = signal.signal(signal.SIGALRM, hang)
    faulthandler.dump_traceback_later(4 * seconds, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    _allowed = tuple(os.path.realpath(path) for path in allowed)
    try:
        yield
    finally:
        _allowed = None
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def fuzzed(
    strategy: st.SearchStrategy[Case],
    *,
    raises: tuple[type[Exception], ...] = (OvsegError,),
    seconds: float = 10.0,
    mebibytes: int = 512,
    seeds: Sequence[Case] = (),
) -> Callable[[Callable[[Case, Path], object]], Callable[..., None]]:
    """Make a target of one case and its folder a slow test; see the head of this file.

    Args:
        strategy: draws cases.
        raises: the errors that the target documents.
        seconds: that a case may take, on a busy machine.
        mebibytes: of address space that a case may ask for.
        seeds: cases that are always tried.
    """

    def decorate(target: Callable[[Case, Path], object]) -> Callable[..., None]:
        def explore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
            folder, home, temporary = (tmp_path / name for name in ("work", "home", "temporary"))
            for made in (folder, home, temporary):
                made.mkdir()
            monkeypatch.setenv("HOME", str(home))
            monkeypatch.setenv("TMPDIR", str(temporary))
            monkeypatch.setattr("tempfile.tempdir", str(temporary))

            @settings(
                max_examples=CASES,
                derandomize=REPEATS,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )
            @given(strategy)
            def run(case: Case) -> None:
                os.chdir(_emptied(folder))
                watched = _watched((folder, temporary), seconds=seconds, mebibytes=mebibytes)
                with watched, suppress(raises):
                    target(case, folder)
                assert not list(home.iterdir()), "something was left in the home folder"

            for seed in seeds:
                run = example(seed)(run)
            monkeypatch.chdir(folder)  # and back when the test ends
            run()

        explore.__name__, explore.__doc__ = target.__name__, target.__doc__
        explore.__module__ = target.__module__
        return pytest.mark.slow(pytest.mark.timeout(0)(explore))

    return decorate


def corpus(name: str) -> list[bytes]:
    """The files of `tests/fuzz/corpus/<name>`, in order."""
    folder = Path(__file__).parent / "corpus" / name
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes], *, most: int = 6) -> bytes:
    """Valid inputs with some bytes changed, cut, doubled, moved or taken from another one."""
    data = bytearray(draw(st.sampled_from(list(valid))))
    for _ in range(draw(st.integers(0, most))):
        where = draw(st.integers(0, max(len(data), 1) - 1))
        length = draw(st.sampled_from([1, 2, 4, 8, 32, 256]))
        match draw(st.sampled_from(["set", "flip", "cut", "end", "insert", "repeat", "splice"])):
            case "set":
                data[where : where + 1] = bytes([draw(st.sampled_from(ODD_BYTES))])
            case "flip" if data:
                data[where] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[where : where + length]
            case "end":
                del data[where:]
            case "insert":
                data[where:where] = draw(st.binary(max_size=8))
            case "repeat":
                data[where:where] = data[where : where + length] * draw(st.integers(1, 20))
            case "splice":
                other = draw(st.sampled_from(list(valid)))
                start = draw(st.integers(0, max(len(other), 1) - 1))
                data[where : where + length] = other[start : start + length]
    return bytes(data)


ODD_BYTES = (0, 1, 9, 10, 13, 27, 34, 39, 44, 47, 58, 91, 92, 93, 123, 125, 127, 128, 239, 255)
