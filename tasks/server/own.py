"""The Prefect server of a command: that of PREFECT_API_URL, or a temporary one of its own.

The temporary server is a process in a separate session, so that a Ctrl-C reaches only the command;
it ends with the command in any case. A server that cannot start, or that disappears, is reported
within seconds in one line.
"""

from __future__ import annotations

import atexit
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ovseg.errors import OvsegError
from ovseg.files.urls import without_secrets
from ovseg.stages import interrupts
from tasks.server.checks import check_database, check_home, check_proxies, exempt_loopback

# Before Prefect is imported: no telemetry, readable console output.
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(_name, _value)

_START_SECONDS = 180.0  # creating the database on a busy machine takes long
_GONE_SECONDS = 20.0  # time for others to restart their server
_own: TemporaryServer | None = None


class TemporaryServer:
    """A Prefect server of this process, on a free port of 127.0.0.1.

    Attributes:
        url: of its API.
        log: file with its errors.
    """

    def __init__(self, home: Path, environment: dict[str, str]):
        self.log = home / "ovseg-server.log"
        with socket.socket() as bound, self.log.open("wb") as log:
            bound.bind(("127.0.0.1", 0))
            self._port: int = bound.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasks.server.process", str(bound.fileno())],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[bound.fileno()],
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{self._port}/api"
        self._watched = False
        atexit.register(self.stop)

    def wait(self) -> None:
        """Wait until it responds.

        Raises:
            OvsegError: if it exits first, or needs more than three minutes.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if (code := self._process.poll()) is not None:
                raise OvsegError(
                    f"Prefect's server could not start (exit code {code}; {self._last_words()}):"
                    f" its log is {self.log}"
                )
            if self._healthy():
                return
            time.sleep(0.05)
        raise OvsegError(
            f"Prefect's server has not answered for {_START_SECONDS:.0f} s: its log is {self.log}"
        )

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [line for line in lines if "Error" in line and not line.startswith(" ")]
        return (errors or lines or ["it said nothing"])[-1][:300]

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def lost(self) -> str:
        """Return the message for a server that ended before the command."""
        return f"Prefect's server has ended, its log is {self.log}; {interrupts.ON_AGAIN}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process if the server ends within the context."""
        self._watched = True
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            self._watched = False

    def _watch(self) -> None:
        while self._process.poll() is None:  # not `wait`, whose lock `stop` needs
            time.sleep(0.2)
        if self._watched:
            interrupts.end(2, f"ovseg: {self.lost()}")

    def stop(self) -> None:
        """Stop it, first politely."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class GivenServer:
    """A Prefect server started by others.

    Attributes:
        url: of its API.
    """

    def __init__(self, url: str):
        self.url = url
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))

    def check(self) -> None:
        """Check once that it responds.

        Raises:
            OvsegError: if it does not.
        """
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": 5.0}, sync_client=True) as client,
        ):
            error = client.api_healthcheck()
        if error is not None:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise OvsegError(
                f"no Prefect server responds at {self._shown} ({lines[0]}): start it or correct"
                " PREFECT_API_URL; unset, a temporary server is used"
            )

    @property
    def _shown(self) -> str:
        return without_secrets(self.url)

    def _answers(self) -> bool:
        try:
            socket.create_connection(self._place, timeout=5).close()
        except OSError:
            return False
        return True

    @property
    def is_gone(self) -> bool:
        """Whether nothing listens there."""
        return not self._answers()

    def lost(self) -> str:
        """Return the message for a server that disappeared before the command ended."""
        return f"the Prefect server at {self._shown} no longer responds; {interrupts.ON_AGAIN}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """End this process if the server is away for twenty seconds within the context."""
        done = threading.Event()
        if self._answers():  # a server behind a proxy cannot be watched
            threading.Thread(target=self._watch, args=(done,), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _watch(self, done: threading.Event) -> None:
        answered = time.monotonic()
        while not done.wait(2):
            if self._answers():
                answered = time.monotonic()
            elif time.monotonic() - answered > _GONE_SECONDS:
                interrupts.end(2, f"ovseg: {self.lost()}")


def is_temporary() -> bool:
    """Whether the server ends with this process, so that links to its pages would be dead."""
    return _own is not None


def _server() -> TemporaryServer | GivenServer:
    global _own
    if _own is not None:
        return _own
    with warnings.catch_warnings():  # about an unwritable folder, reported below
        warnings.simplefilter("ignore")
        from prefect.context import refresh_global_settings_context
        from prefect.settings import get_current_settings

        settings = get_current_settings()
    if settings.api.url:
        given = GivenServer(settings.api.url)
        given.check()
        return given
    check_home(settings.home)
    check_database(settings.server.database.connection_url.get_secret_value())
    set_ones = settings.to_environment_variables(exclude_unset=True)
    _own = TemporaryServer(settings.home, {**os.environ, **set_ones})
    os.environ["PREFECT_API_URL"] = _own.url
    refresh_global_settings_context()
    return _own


@contextmanager
def connected(load: Callable[[], object]) -> Iterator[None]:
    """Run flows on a responding server; interrupted flows are recorded as cancelled.

    Args:
        load: called while a temporary server starts, for slow imports.

    Raises:
        OvsegError: if there is no server and none can be started, or it disappeared.
    """
    with interrupts.resumable():
        exempt_loopback()
        check_proxies()
        server = _server()
        load()
        if isinstance(server, TemporaryServer):
            server.wait()
        with _without_heartbeats(server), _recorded(server):
            yield


@contextmanager
def _without_heartbeats(server: TemporaryServer | GivenServer) -> Iterator[None]:
    """Send no heartbeats to a server that ends with this process: nobody could look for them.

    Prefect waits up to a second for its heartbeat thread at the end of each flow.
    """
    if isinstance(server, GivenServer):
        yield
        return
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@contextmanager
def _recorded(server: TemporaryServer | GivenServer) -> Iterator[None]:
    from prefect import tags
    from prefect.client.orchestration import get_client

    from tasks.flow_runs import OWN, OpenRuns

    with get_client(sync_client=True) as client:
        runs = OpenRuns(client)
        runs.close_dead()
        with tags(OWN), interrupts.closing(runs.cancel_own), server.watched():
            try:
                yield
            except OvsegError:
                raise
            except Exception as error:
                if server.is_gone:
                    raise OvsegError(server.lost()) from error
                raise
