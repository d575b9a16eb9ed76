"""Captions files: their kind by content, and the lines of a text file.

A file's name only says what it should be. Login pages, Git LFS pointers, compressed files and text
in UTF-16 are common under any name; each gets an error that says what it is.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator

from ovseg.errors import OvsegError
from ovseg.files.locations import Location

MAX_LINE = 2**24
"""Most bytes of a line; longer ones are counted, not read."""
_HEAD = 512

_SET = "set data.captions_format to"
_BY_START: tuple[tuple[bytes, str, str | None, str], ...] = (
    # first bytes, what that is, the format that reads it, advice for other formats
    (b"\x1f\x8b", "compressed with gzip", None, "unpack it first"),
    (b"BZh", "compressed with bzip2", None, "unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz", None, "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", None, "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", None, "unpack it first"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", None, "unpack it, or save it as CSV"),
    (b"ARROW1", "an Arrow file", None, "write it as Parquet"),
    (b"PAR1", "a Parquet file", "parquet", f"{_SET} parquet"),
    (b"SQLite format 3", "a SQLite database", None, "write its table as CSV"),
    (b"version https://git-lfs", "a Git LFS pointer", None, "fetch the file with `git lfs pull`"),
)
_WEB_PAGE = (b"<!doctype html", b"<html", b"<?xml")
_WIDE = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x00\x00\xfe\xff", "UTF-32"))
_MARK = b"\xef\xbb\xbf"


def refuse_other_kinds(path: Location, format: str) -> None:
    """Reject a file whose first bytes show that it is not in a format.

    Args:
        path: a file.
        format: the expected format.

    Raises:
        OvsegError: saying what the file is and what to do about it.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        head: bytes = stream.read(_HEAD)
    for start, what, reads, advice in _BY_START:
        if head.startswith(start) and format != reads:
            raise OvsegError(f"{path} is {what}: {advice}")
    if head[257:262] == b"ustar" and format != "webdataset":
        raise OvsegError(f"{path} is a tar: {_SET} webdataset")
    if head.removeprefix(_MARK).lstrip().lower().startswith(_WEB_PAGE):
        raise OvsegError(
            f"{path} is a web page, not captions: download the file itself, after a login if it"
            " needs one"
        )
    if format not in ("parquet", "webdataset") and (unicode := _wide(head)):
        raise OvsegError(f"{path} is text in {unicode}: save it as UTF-8")


def _wide(head: bytes) -> str | None:
    """Detect UTF-16 or UTF-32 by the byte order mark or by the zeros between the letters."""
    for mark, name in _WIDE:
        if head.startswith(mark):
            return name
    half = len(head) // 2
    if half >= 4 and any(head[parity::2].count(0) > 0.7 * half for parity in (0, 1)):
        return "UTF-16 or UTF-32"
    return None


def text_lines(path: Location, left_out: Counter[str]) -> Iterator[bytes]:
    """Yield the lines of a text file with their line ends.

    Args:
        path: the file.
        left_out: counts `bad_row` for lines of more than `MAX_LINE` bytes.
    """
    with path.open("rb") as stream:
        # the readline of a remote stream has no limit
        lines = io.BufferedReader(stream)  # type: ignore[type-var]
        while line := lines.readline(MAX_LINE):
            rest = line
            while len(rest) == MAX_LINE and not rest.endswith(b"\n"):
                line, rest = b"", lines.readline(MAX_LINE)
            if line:
                yield line
            else:
                left_out["bad_row"] += 1
