"""Which process a run belongs to, and whether that process can be proved dead."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

TAG = "ovseg.process"
"""The tag of MLflow runs; Prefect's flow runs have one that begins with it and `=`."""


@cache
def _identity(pid: int) -> str:
    boot = _read("/proc/sys/kernel/random/boot_id")
    return "/".join([platform.node(), boot, _namespace(), str(pid), _started(pid)])


def identity() -> str:
    """This process: `host/boot/pid namespace/pid/start`, what a system does not tell left empty."""
    return _identity(os.getpid())


def is_dead(identity: str) -> bool:
    """Whether a process is proved to be gone; never guessed.

    Args:
        identity: what `identity` gave there.

    Returns:
        True where this host was started anew since, or has no process of that number and start;
        False for a process of another host or container, and for what is no identity.
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
    """The five parts of this process's identity."""
    return identity().split("/")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:  # equal numbers in two containers are two processes
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in ticks since the boot; empty where there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":  # a zombie is dead, only nobody has been told
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
