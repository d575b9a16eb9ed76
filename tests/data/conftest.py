"""Small data sets as their owners publish them."""

import pytest
from published_sources import SOURCES


@pytest.fixture
def ade(tmp_path):
    """A folder whose `source` is a small ADE20K-150."""
    SOURCES["ade20k-150"](tmp_path / "source")
    return tmp_path
