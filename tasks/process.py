"""The process that a run belongs to, and whether it is provably dead."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

TAG = "ovseg.process"
"""The tag of MLflow runs; Prefect's flow runs have a tag that starts with it and `=`."""


@cache
def _identity(pid: int) -> str:
    boot = _read("/proc/sys/kernel/random/boot_id")
    return "/".join([platform.node(), boot, _namespace(), str(pid), _started(pid)])


def identity() -> str:
    """Identify this process: `host/boot/pid namespace/pid/start`; unknown parts are empty."""
    return _identity(os.getpid())


def is_dead(identity: str) -> bool:
    """Return whether a process is provably gone; never guesses.

    Args:
        identity: result of `identity` in that process.

    Returns:
        True if this host was rebooted since, or has no process with that number and start time;
        False for a process of another host or container, and for an invalid identity.
    """
    parts = identity.split("/")
    if len(parts) != 5 or not parts[3].isascii() or not parts[3].isdigit():
        return False
    host, boot, namespace, pid, started = parts
    ours = identity_parts()
    if host != ours[0]:
        return False
    if boot != ours[1]:
        return bool(boot and ours[1])
    if namespace != ours[2]:
        return False
    return _started(int(pid)) != started if started else not _exists(int(pid))


def identity_parts() -> list[str]:
    """Return the five parts of this process's identity."""
    return identity().split("/")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:  # equal pids in two containers are two processes
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since the boot; empty if there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":  # a zombie is dead but not yet reaped
        return ""
    return fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
