"""Runs on a real terminal, interrupted at eight moments, and what the next run makes of them.

    make interrupts

runs every way of interrupting at every moment; the slow tests take the ways in turn, one a moment.
Each run goes on where the one before it was interrupted; the last is compared with one that nobody
disturbed.
"""

import os
import time
from itertools import cycle, islice
from pathlib import Path

import psutil
import pytest
from published_files import published
from terminals import OnTerminal, processes, running

from tasks.server.own import TemporaryServer

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(3000)]

SETTINGS = {
    "data.mining_world.scenes": 16,
    "data.benchmark_world.scenes": 4,
    "data.min_shards": 8,
    "mining.proposals.decode_workers": 2,
    "arms.epochs": 6,
    "arms.batch_size": 32,
    "arms.warmup_steps": 2,
}
CODES = {"ctrl-c": 130, "term": 143, "twice": 130, "term-group": 143, "hang-up": 129}
WORDS = {
    130: "ovseg: interrupted; finished shards are kept, run the same command to go on",
    143: "ovseg: ended by SIGTERM; finished shards are kept, run the same command to go on",
}
SECONDS = 10.0  # 3 on a machine that has nothing else to do


@pytest.fixture(scope="session", autouse=True)
def prefect_server():
    """Each run starts its own server."""


def command(root: Path) -> list[str]:
    settings = (word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}"))
    return ["run", "--root", str(root), *settings]


def begun(root: Path, stage: str) -> bool:
    """Whether a stage is at work: a folder of it is not whole."""
    return any(not (folder / "manifest.json").exists() for folder in root.glob(f"{stage}/*"))


def starting(terminal: OnTerminal, root: Path) -> bool:
    if "starting Prefect" not in terminal.text:
        return False
    time.sleep(1)  # its imports, or its server's
    return True


def listing(terminal: OnTerminal, root: Path) -> bool:
    return begun(root, "images_listed")


def decoding(terminal: OnTerminal, root: Path) -> bool:
    if not begun(root, "proposals"):
        return False
    forkservers = psutil.Process(terminal.process.pid).children()
    return any(each.children() for each in forkservers if "forkserver" in " ".join(each.cmdline()))


def network(terminal: OnTerminal, root: Path) -> bool:
    return begun(root, "pairs") and any(root.glob("pairs/*/shard-*.json"))


def training(terminal: OnTerminal, root: Path) -> bool:
    return begun(root, "checkpoints")


def scoring(terminal: OnTerminal, root: Path) -> bool:
    return begun(root, "benchmarks")


def report(terminal: OnTerminal, root: Path) -> bool:
    return begun(root, "report")


MOMENTS = (starting, listing, decoding, network, training, scoring, report)


def idle(terminal: OnTerminal, root: Path) -> bool:
    """Everything is there: the run only looks at it."""
    return "judge pairs: found" in terminal.text


def interrupted(root: Path, home: Path, moment, how: str) -> None:
    """Run until a moment, interrupt, and look at what is left."""
    terminal = OnTerminal(command(root), home)
    try:
        terminal.until(lambda: moment(terminal, root))
        began = time.monotonic()
        terminal.interrupt(how)
        code = terminal.process.wait(60)
        seconds = time.monotonic() - began
        left = [process.cmdline() for process in processes(home)]
        print(f"{moment.__name__:<9} {how:<10} {code} after {seconds:.2f} s", flush=True)
        assert code == CODES[how]
        assert seconds < SECONDS
        if how != "hang-up":  # there is no terminal to say it on
            terminal.until_said()
            assert terminal.said_since() == [WORDS[code]]
        until = time.monotonic() + 2  # multiprocessing's tracker ends after its parent
        while left and time.monotonic() < until:
            left = [process.cmdline() for process in processes(home)]
        assert not left
        if how != "twice":  # which waits for no record: the next run closes what is left
            assert not running(root, home)
    finally:
        terminal.close()


def whole(root: Path, home: Path) -> None:
    """Run to the end."""
    terminal = OnTerminal(command(root), home)
    try:
        assert terminal.process.wait(1500) == 0, terminal.text
        assert not running(root, home)
    finally:
        terminal.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    whole(folder / "results", folder)
    return folder / "results"


def ways() -> list[tuple[str, ...]]:
    """The ways of interrupting at each moment, a list for each chain of runs."""
    moments = len(MOMENTS) + 1
    if os.environ.get("OVSEG_INTERRUPTS") == "all":
        return [(how,) * moments for how in CODES]
    return [tuple(islice(cycle(CODES), moments))]


@pytest.mark.parametrize("hows", ways(), ids=lambda hows: "-".join(dict.fromkeys(hows)))
def test_an_interrupted_run_ends_at_once_and_the_next_goes_on(hows, undisturbed, tmp_path):
    root, home = tmp_path / "results", tmp_path / "prefect"
    home.mkdir()
    for moment, how in zip(MOMENTS, hows, strict=False):
        interrupted(root, home, moment, how)
    whole(root, home)
    interrupted(root, home, idle, hows[-1])
    assert published(root) == published(undisturbed)
    assert any("checkpoints" in path for path in published(root))


# --------------------------------------------------------------------------------------
# Servers that go away, and one that stays


def ends_with(terminal: OnTerminal, code: int, words: str, seconds: float) -> None:
    """The exit code within a time, and last a line with these words; before it, no flood.

    A server of others may come back: the run goes on for some seconds, and says how far it is.
    """
    began = time.monotonic()
    assert terminal.process.wait(300) == code, terminal.text
    print(f"{words}: {code} after {time.monotonic() - began:.2f} s", flush=True)
    assert time.monotonic() - began < seconds
    terminal.until_said()
    *before, line = terminal.said_since()
    assert line.startswith("ovseg: ") and words in line
    assert len(before) < 20 and not any("Traceback" in text for text in before), before
    assert "run the same command to go on" in line


def test_its_own_server_that_dies_ends_the_run(tmp_path):
    root, home = tmp_path / "results", tmp_path / "prefect"
    home.mkdir()
    terminal = OnTerminal(command(root), home)
    try:
        terminal.until(lambda: begun(root, "nouns"))
        terminal.mark()
        (server,) = (each for each in processes(home) if "tasks.server.process" in each.cmdline())
        server.kill()
        ends_with(terminal, 2, "Prefect's server has ended", SECONDS)
        assert not processes(home)
    finally:
        terminal.close()


def test_a_server_of_others_is_told_and_may_go_away(tmp_path):
    root, home, own = tmp_path / "results", tmp_path / "theirs", tmp_path / "ours"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    server = TemporaryServer(home, environment | {"PREFECT_HOME": str(home)})
    terminals = []
    try:
        server.wait()
        terminals.append(OnTerminal(command(root), own, PREFECT_API_URL=server.url))
        terminals[0].until(lambda: begun(root, "nouns"))
        terminals[0].interrupt("ctrl-c")
        assert terminals[0].process.wait(60) == 130
        assert not running(root, home)
        assert not server.is_gone
        terminals.append(OnTerminal(command(root), own, PREFECT_API_URL=server.url))
        terminals[1].until(lambda: begun(root, "proposals"))
        terminals[1].mark()
        server.stop()
        ends_with(terminals[1], 2, "no longer responds", 60.0)
    finally:
        for terminal in terminals:
            terminal.close()
        server.stop()
