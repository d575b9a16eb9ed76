"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real images, captions and golden vectors; without it a test skips."""
    folder = os.environ.get("OVSEG_REFERENCE_DATA")
    if not folder:
        pytest.skip("set OVSEG_REFERENCE_DATA to the folder of reference data to run this test")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"OVSEG_REFERENCE_DATA={folder} is not a folder")
    return path
