"""Temporary folders in memory, where there is a file system for that and it has room.

Databases and stages wait for the disk at every commit and every file they publish; a test that
looks at what they wrote need not. Set TMPDIR to have the folders elsewhere.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

IN_MEMORY = Path("/dev/shm")
ROOM = 8 * 2**30
"""Free bytes to begin with; the whole suite leaves some 2 GiB until it ends."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name the folder to this process and to those that it starts."""
    if hasattr(config, "workerinput") or "TMPDIR" in os.environ:
        return
    if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM:
        folder = IN_MEMORY / f"ovseg-tests-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        os.environ["TMPDIR"] = str(folder)
        tempfile.tempdir = None  # it may have been looked up before
