"""Prefect's server: what keeps it from starting is one line, and it ends with what started it."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest
from prefect.settings import get_current_settings

from ovseg.errors import OvsegError
from tasks.server.checks import check_database, check_home, check_proxies, exempt_loopback
from tasks.server.own import GivenServer, TemporaryServer, _without_heartbeats

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def proxies(monkeypatch):
    """Sets proxies in an environment that has none."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def set_ones(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    yield set_ones
    for name in ("no_proxy", "NO_PROXY"):  # set by what is tested
        os.environ.pop(name, None)


def database(path, *revisions: str) -> str:
    with closing(sqlite3.connect(path)) as con:
        con.execute("CREATE TABLE alembic_version (version_num TEXT)")
        con.executemany("INSERT INTO alembic_version VALUES (?)", [(each,) for each in revisions])
        con.commit()
    return f"sqlite+aiosqlite:///{path}"


# --------------------------------------------------------------------------------------
# Looked at before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"HTTP_PROXY": "http://127.0.0.1:9"}, "127.0.0.1,localhost"),
        (
            {"https_proxy": "http://p:1", "NO_PROXY": "a.com, b.com"},
            "a.com,b.com,127.0.0.1,localhost",
        ),
        ({"all_proxy": "http://p:1", "no_proxy": "localhost"}, "localhost,127.0.0.1"),
        ({"HTTP_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ({}, None),
    ],
)
def test_this_machine_is_exempt_from_proxies(proxies, given, expected):
    proxies(**given)
    exempt_loopback()
    if expected is None:
        assert os.environ.get("NO_PROXY") is None
    else:
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected
    assert {name: os.environ[name] for name in given if name.lower() != "no_proxy"} == {
        name: value for name, value in given.items() if name.lower() != "no_proxy"
    }


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1080", "gopher://127.0.0.1:70"])
def test_a_proxy_that_cannot_be_used_is_named(proxies, url):
    proxies(ALL_PROXY=url)
    exempt_loopback()
    with pytest.raises(OvsegError, match=r"^the proxy of ALL_PROXY cannot be used: .*unset it$"):
        check_proxies()


def test_a_plain_proxy_can_be_used(proxies):
    proxies(HTTP_PROXY="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
    check_proxies()


def test_a_home_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below", "/proc/prefect"):
        with pytest.raises(OvsegError, match="set PREFECT_HOME") as raised:
            check_home(type(tmp_path)(home))
        assert str(home) in str(raised.value) and "\n" not in str(raised.value)
    check_home(tmp_path / "new" / "home")
    assert list((tmp_path / "new" / "home").iterdir()) == []


def test_a_database_of_another_version_is_named(tmp_path):
    url = database(tmp_path / "prefect.db", "ffffffffffff")
    with pytest.raises(OvsegError, match=r"another version of Prefect \(revision ffffffffffff\)"):
        check_database(url)


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "prefect.db").write_text("garbage that is long enough to have a header" * 20)
    with pytest.raises(OvsegError, match="is damaged"):
        check_database(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")


def test_a_folder_is_no_database(tmp_path):
    (tmp_path / "prefect.db").mkdir()
    with pytest.raises(OvsegError, match="cannot be opened"):
        check_database(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")


def test_a_database_that_is_new_known_or_of_another_kind_passes(tmp_path):
    check_database(database(tmp_path / "known.db", "9725c1cbee35"))  # the first there was
    check_database(f"sqlite+aiosqlite:///{tmp_path / 'absent.db'}")
    sqlite3.connect(tmp_path / "empty.db").close()
    check_database(f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}")
    check_database("sqlite+aiosqlite:///file::memory:?cache=shared")
    check_database("postgresql+asyncpg://user:secret@db/prefect")


# --------------------------------------------------------------------------------------
# Servers


def test_no_server_at_the_address_is_said_at_once():
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/api"
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(OvsegError, match="no Prefect server responds at") as raised,
        ):
            GivenServer(url).check()
    assert "secret" not in str(raised.value) and "PREFECT_API_URL" in str(raised.value)


def environment(**changed: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    return own | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | changed


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why_and_where(tmp_path):
    url = "sqlite+aiosqlite:////proc/nowhere/prefect.db"
    server = TemporaryServer(
        tmp_path,
        environment(PREFECT_HOME=str(tmp_path), PREFECT_SERVER_DATABASE_CONNECTION_URL=url),
    )
    try:
        with pytest.raises(OvsegError, match="could not start") as raised:
            server.wait()
    finally:
        server.stop()
    assert str(tmp_path / "ovseg-server.log") in str(raised.value)
    assert "unable to open database file" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_server_ends_with_a_parent_that_is_killed(tmp_path):
    program = (
        "import sys, os, time; from pathlib import Path\n"
        "from tasks.server.own import TemporaryServer\n"
        f"server = TemporaryServer(Path({str(tmp_path)!r}), dict(os.environ))\n"
        "print(server._process.pid, os.getsid(server._process.pid), flush=True); time.sleep(1000)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(PREFECT_HOME=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, session = map(int, parent.stdout.readline().split())
    assert session == pid, "a session of its own: no signal of the terminal reaches it"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 30
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.02)


LOCKED = """
import asyncio, sys
from prefect.server.database import provide_database_interface
from tasks.server.process import _lock_before_reading
import sqlalchemy as sa

async def main(repaired):
    if repaired:
        _lock_before_reading()
    db = provide_database_interface()
    async with db.session_context(begin_transaction=True) as session:
        await session.execute(sa.text("create table probe (x)"))

    async def write(pause):
        async with db.session_context(begin_transaction=True) as session:
            await session.execute(sa.text("select count(*) from probe"))
            await asyncio.sleep(pause)
            await session.execute(sa.text("insert into probe values (1)"))

    done = await asyncio.gather(write(0.5), write(0.1), return_exceptions=True)
    print([str(each) for each in done if each is not None])

asyncio.run(main(sys.argv[1] == "repaired"))
"""


@pytest.mark.parametrize(("how", "errors"), [("as it is", 1), ("repaired", 0)])
def test_two_transactions_of_the_server_wait_for_each_other(tmp_path, how, errors):
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, how],
        env=environment(PREFECT_HOME=str(tmp_path)),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.count("database is locked") == errors, done.stdout
    assert done.stdout.startswith("[")


def test_heartbeats_are_sent_to_the_servers_of_others_only():
    def frequency():
        return get_current_settings().flows.heartbeat_frequency

    usual = frequency()
    assert usual is not None
    for server, expected in ((object.__new__(TemporaryServer), None), (GivenServer(""), usual)):
        with _without_heartbeats(server):
            assert frequency() == expected
    assert frequency() == usual
