"""Strict reading of untrusted JSON: bounded in size and depth, with errors on one line.

    document = read_json(Path("panoptic_val2017.json"), advice="get it again")

The standard library accepts more than JSON: it keeps the last of duplicate keys, raises
RecursionError at a depth that depends on the stack, and turns `NaN` and `1e999` into numbers that
pass range checks.
"""

from __future__ import annotations

import errno
import json
import math
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ovseg.errors import OvsegError
from ovseg.files.locations import Location, reaching

MAX_BYTES = 2**30
"""Of a file. `captions_train2017.json` has 92 MB; parsing takes up to 25 times the file's size."""
MAX_DEPTH = 64
"""Nesting of lists and objects; COCO's files have at most 6."""

_OTHER_UNICODE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


def parse_json(content: bytes | str, *, lenient: bool = False) -> Any:
    """Parse a JSON value.

    Args:
        content: text, or UTF-8 with or without a byte order mark.
        lenient: for values that are checked one by one later: bytes that are not UTF-8 become lone
            surrogates, `NaN` and the infinities become null, and numbers too large for a float
            become infinite. Otherwise each of these is an error.

    Raises:
        ValueError: with the reason on one line, if the content is not JSON, is nested more than
            `MAX_DEPTH` deep, repeats a key in an object, or holds a number of over 4,300 digits.
    """
    if isinstance(content, bytes):
        content = _decoded(content, lenient=lenient)
    hooks: dict[str, Any] = {"parse_constant": _null} if lenient else _FINITE
    try:
        value = json.loads(content.removeprefix("\ufeff"), object_pairs_hook=_object, **hooks)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


def read_json(
    path: Location, *, advice: str, max_bytes: int = MAX_BYTES, lenient: bool = False
) -> Any:
    """Read the value of a JSON file.

    Args:
        path: a file or a URL.
        advice: the end of the message if the file is rejected: what to do about it.
        max_bytes: larger files are rejected unread.
        lenient: see `parse_json`.

    Raises:
        OSError: it cannot be opened or is not a regular file.
        OvsegError: it is too large or not JSON.
    """
    content = _read(path, max_bytes)
    if len(content) > max_bytes:
        size = f"{max_bytes / 2**20:,.0f} MiB" if max_bytes >= 2**20 else f"{max_bytes:,} bytes"
        raise OvsegError(f"{path} is larger than {size}, the limit for such a file: {advice}")
    try:
        return parse_json(content, lenient=lenient)
    except ValueError as error:
        raise OvsegError(f"{path} is not valid JSON ({error}): {advice}") from error


def _read(path: Location, max_bytes: int) -> bytes:
    """Read one byte more than `max_bytes` at most, which shows that the file is larger."""
    with reaching(path):
        if isinstance(path, Path):
            status = path.stat()
            kind = status.st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # opening a pipe waits for a writer
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            max_bytes = min(max_bytes, status.st_size)  # reading allocates this much up front
        with path.open("rb") as stream:
            content: bytes = stream.read(max_bytes + 1)
    return content


def _decoded(content: bytes, *, lenient: bool) -> str:
    for mark, name in _OTHER_UNICODE.items():
        if content.startswith(mark):
            raise ValueError(f"it is in {name}; save it as UTF-8")
    try:
        return content.decode("utf-8", "surrogateescape" if lenient else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1:,} is not UTF-8; save it as UTF-8") from error


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"an object has the key {repeated!a:.80} twice")
    return members


def _null(name: str) -> None:
    return None


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"the number {digits:.40} is too large")
    return value


_FINITE = {"parse_constant": _reject_constant, "parse_float": _finite}


def _check_depth(value: Any) -> None:
    """Check the depth level by level: a recursive walk would fail where the parser does."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, _NESTS)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


_NESTS = (dict, list)


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
