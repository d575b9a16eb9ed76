"""A command on a terminal of its own, interrupted as people and systems interrupt it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil

PROGRAM = Path(sys.executable).parent / "ovseg"
PATIENCE = 600.0  # seconds until a moment comes, on a machine that has much else to do


def _adopt_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class OnTerminal:
    """`ovseg ...` as the session leader of a pseudo-terminal."""

    def __init__(self, words: list[str], home: Path, **environment: str):
        self._master, slave = pty.openpty()
        self.home, self._seen, self._open = home, bytearray(), True
        own = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
        settings = {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [PROGRAM, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=own | settings | environment,
            start_new_session=True,
            preexec_fn=_adopt_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the terminal is gone
            while self._open:
                if select.select([self._master], [], [], 0.02)[0]:
                    self._seen += os.read(self._master, 65536)

    @property
    def text(self) -> str:
        """What the terminal was sent so far."""
        return bytes(self._seen).decode(errors="replace").replace("\r", "")

    def until(self, moment: Callable[[], object]) -> None:
        """Wait for a moment of the command."""
        end = time.monotonic() + PATIENCE
        while not moment():
            assert self.process.poll() is None, f"it ended before the moment came:\n{self.text}"
            assert time.monotonic() < end, f"the moment never came:\n{self.text}"
            time.sleep(0.005)

    def mark(self) -> None:
        """From here on `said_since` listens."""
        self._before = len(self._seen)

    def interrupt(self, how: str) -> None:
        """Send it what `how` says: ctrl-c, twice, term, term-group or hang-up."""
        self.mark()
        if how in ("ctrl-c", "twice"):
            os.write(self._master, b"\x03")
        if how == "twice":
            time.sleep(0.1)
            with suppress(OSError):
                os.write(self._master, b"\x03")
        elif how == "term":
            self.process.send_signal(signal.SIGTERM)
        elif how == "term-group":
            os.killpg(self.process.pid, signal.SIGTERM)
        elif how == "hang-up":
            self._hang_up()

    def _hang_up(self) -> None:
        self._open = False
        self._reader.join()  # while something reads it, a closed terminal is not gone
        os.close(self._master)

    def said_since(self) -> list[str]:
        """The lines of words since the interrupt: of bars and of what a terminal echoes, none."""
        text = bytes(self._seen[self._before :]).decode(errors="replace").replace("\r", "\n")
        lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\^C", "", text).split("\n")
        return [line.strip() for line in lines if line.strip() and not re.search("[━⠀-⣿]", line)]

    def until_said(self) -> None:
        """Wait until the terminal was sent all that its dead process wrote."""
        end = time.monotonic() + 5
        while not self.said_since() and time.monotonic() < end:
            time.sleep(0.01)

    def close(self) -> None:
        """End what is left, whatever happened."""
        for process in processes(self.home):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        if self._open:
            self._hang_up()


def processes(home: Path) -> list[psutil.Process]:
    """The living processes of a Prefect home: the command, its server, its workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("PREFECT_HOME") == str(home)
                and process.status() != "zombie"
                and process.pid != os.getpid()
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def running(root: Path, home: Path) -> list[str]:
    """The runs that MLflow and Prefect take for running, task runs too."""
    queries = {
        root / "mlflow.db": "select 'MLflow ' || name from runs where status = 'RUNNING'",
        home / "prefect.db": "select 'Prefect ' || name from flow_run"
        " where state_type in ('RUNNING', 'PENDING', 'CANCELLING')",
    }
    names: list[str] = []
    for path, query in queries.items():
        if path.exists():
            with closing(sqlite3.connect(path, timeout=30)) as con, suppress(sqlite3.Error):
                names += [name for (name,) in con.execute(query)]
    return names
