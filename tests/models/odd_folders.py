"""Model folders with something odd in them, and what loading them says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ovseg.errors import OvsegError


def one_line(call: Callable[[], object], words: str | None = None) -> str:
    with pytest.raises(OvsegError, match=words) as error:
        call()
    assert "\n" not in str(error.value) and len(str(error.value)) < 700
    return str(error.value)


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
