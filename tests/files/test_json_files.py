"""JSON of others: what is read, and the one line about what is not."""

import json
import os
from pathlib import Path

import pytest

from ovseg.errors import OvsegError
from ovseg.files.json_files import MAX_DEPTH, parse_json, read_json


def nested(depth: int, left: str = "[", right: str = "]") -> bytes:
    return (left * depth + "0" + right * depth).encode()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_json_is_read(tmp_path: Path, mark: bytes):
    value = {"a": [1, 2.5, None, True, "ü \U0001f415"], "b": {"c": {}}}
    path = tmp_path / "a.json"
    path.write_bytes(mark + json.dumps(value, ensure_ascii=False).encode())
    assert read_json(path, advice="get it again") == value
    assert parse_json(path.read_bytes().decode()) == value


REFUSED = {
    "empty": (b"", "Expecting value"),
    "cut short": (b'{"a": [1, ', "Expecting value"),
    "more after it": (b"{} {}", "Extra data"),
    "a key twice": (b'{"id": 1, "x": {"id": 1, "id": 2}}', "the key 'id' twice"),
    "too deep": (nested(MAX_DEPTH + 1), f"more than {MAX_DEPTH} deep"),
    "far too deep": (b"[" * 200_000, f"more than {MAX_DEPTH} deep"),
    "objects too deep": (nested(200_000, '{"a":', "}"), f"more than {MAX_DEPTH} deep"),
    "UTF-16": ("{}".encode("utf-16"), "in UTF-16; save it as UTF-8"),
    "Windows-1252": (b'{"a": "caf\xe9"}', "byte 11 is not UTF-8"),
    "many digits": (b"9" * 5000, "4300 digits"),
    "NaN": (b"[NaN]", "NaN is not a JSON number"),
    "infinity": (b"[-Infinity]", "-Infinity is not a JSON number"),
    "beyond a float": (b"[1e999]", "1e999 is too large"),
    "control characters": (b'"a\nb"', "Invalid control character"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_json_is_one_line(tmp_path: Path, kind: str):
    content, words = REFUSED[kind]
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(OvsegError) as error:
        read_json(path, advice="get it again")
    text = str(error.value)
    assert words in text and str(path) in text and text.endswith(": get it again")
    assert "\n" not in text and len(text) < 300 + len(str(path))


def test_the_allowed_depth_is_read():
    assert json.dumps(parse_json(nested(MAX_DEPTH))).count("[") == MAX_DEPTH
    wide = [[[n]] for n in range(1000)]
    assert parse_json(json.dumps(wide)) == wide


def test_lenient_keeps_what_is_judged_one_by_one():
    value = parse_json(b'[NaN, -Infinity, "caf\xe9", 1]', lenient=True)
    assert value == [None, None, "caf\udce9", 1]
    with pytest.raises(ValueError, match="deep"):
        parse_json(nested(MAX_DEPTH + 1), lenient=True)


def test_size_is_bounded_and_only_files_are_opened(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + b" " * 100 + b"]")
    assert read_json(path, advice="x", max_bytes=102) == []
    with pytest.raises(OvsegError, match=r"larger than 101 bytes, .*: cut it"):
        read_json(path, advice="cut it", max_bytes=101)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json", advice="x")
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path, advice="x")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="not a regular file"):
        read_json(tmp_path / "pipe.json", advice="x")
