"""Checks before Prefect's server starts: proxies, folder, database."""

from __future__ import annotations

import importlib.util
import os
import re
import sqlite3
import tempfile
import urllib.request
from contextlib import closing
from pathlib import Path

from ovseg.errors import OvsegError

LOOPBACK = ("127.0.0.1", "localhost")


def exempt_loopback() -> None:
    """Exempt requests to this machine from the environment's proxies."""
    if not urllib.request.getproxies_environment():
        return
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in named.replace(" ", "").split(",") if host]
    if "*" not in hosts:
        exempt = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = exempt


def check_proxies() -> None:
    """Check that an HTTP client can be created.

    Raises:
        OvsegError: for a proxy in the environment that it cannot use.
    """
    import httpx

    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.HTTPError) as error:
        named = ", ".join(sorted(set(filter(_is_proxy, os.environ)))) or "the environment"
        reason = str(error).partition(". ")[0]
        hint = " (pip install socksio)" if "socksio" in reason else ""
        raise OvsegError(
            f"the proxy of {named} cannot be used: {reason}{hint}; fix or unset it"
        ) from error


def _is_proxy(name: str) -> bool:
    return name.lower().endswith("_proxy") and name.lower() != "no_proxy"


def check_home(home: Path) -> None:
    """Check that Prefect's folder is writable.

    Raises:
        OvsegError: if it is not.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise OvsegError(
            f"Prefect cannot write its folder {home} ({error.strerror}): set PREFECT_HOME to a"
            " writable one"
        ) from error


def check_database(url: str) -> None:
    """Check that this version of Prefect knows its database.

    Args:
        url: its SQLAlchemy URL; only SQLite files are checked.

    Raises:
        OvsegError: for a database of another version, or a file that is not one.
    """
    path = Path(url.partition(":///")[2].partition("?")[0])
    if not url.startswith("sqlite") or not path.name or ":memory:" in url or not path.exists():
        return
    otherwise = "move it away, or set PREFECT_HOME to another folder"
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=1)) as con:
            rows = con.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "locked" in str(error):  # new, or in use
            return
        raise OvsegError(f"Prefect's database {path} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        raise OvsegError(f"Prefect's database {path} is damaged ({error}): {otherwise}") from error
    if unknown := {str(revision) for (revision,) in rows} - _revisions():
        raise OvsegError(
            f"Prefect's database {path} was made by another version of Prefect (revision"
            f" {min(unknown)}): {otherwise}"
        )


def _revisions() -> set[str]:
    """Return the revisions of Prefect's SQLite database that the installed version knows."""
    spec = importlib.util.find_spec("prefect")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "server" / "database" / "_migrations" / "versions"
    texts = (path.read_text(encoding="utf-8") for path in (folder / "sqlite").glob("*.py"))
    known = (re.search(r"^revision(?:: str)? = [\"'](\w+)[\"']", text, re.M) for text in texts)
    return {match[1] for match in known if match}
