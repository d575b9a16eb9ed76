"""Members of tar shards, read in place without unpacking.

An image in a shard is named `shards/00000.tar#000000012.jpg`: the archive, `#`, the member. The
first request for a member walks through the archive's headers once; after that, a member is a
range of bytes.
"""

from __future__ import annotations

import errno
import os
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

from ovseg.files.locations import Location, reaching, stamp

ENDING = ".tar"
_MARK = f"{ENDING}#"
MAX_TEXT = 2**22
"""Most bytes of a member read while walking; captions and image metadata have fewer."""
MAX_HEADER = 2**20
"""Most bytes of an extended header, which holds a name or a note."""
_BLOCK = 512
_REMOTE_SECONDS = 60  # how long a remote archive is assumed unchanged


class Span(NamedTuple):
    """The bytes of one member."""

    archive: Location
    start: int
    size: int


class Member(NamedTuple):
    """A regular file of an archive, with its `content` if that was requested."""

    name: str
    start: int
    size: int
    content: bytes | None


def member_name(archive: str, member: str) -> str:
    """Return the file name of a member, as captions and tables hold it."""
    return f"{archive}#{member}"


def split_name(file_name: str) -> tuple[str, str] | None:
    """Split a file name into archive and member; None if it does not name a member."""
    before, mark, member = file_name.partition(_MARK)
    return (before + ENDING, member) if mark and member else None


def _split(location: Location) -> tuple[Location, str] | None:
    """Split a location into archive and member; None if it does not name a member."""
    places: list[Location] = [location, *location.parents]
    for depth, place in enumerate(places):
        before, mark, member = place.name.partition(_MARK)
        if mark:
            below = [inner.name for inner in reversed(places[:depth])]
            return place.with_name(before + ENDING), "/".join([member, *below])
    return None


class _Headers:
    """Stream that `tarfile` reads headers from: each is within the size bound and the file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.tell = stream, stream.tell
        self.end = stream.seek(0, os.SEEK_END)
        stream.seek(0)

    def read(self, size: int) -> bytes:
        """Read a header, whatever size it claims."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.stream.read(size)

    def seek(self, offset: int) -> int:
        """Seek to where a header says the next one is."""
        if not 0 <= offset <= self.end:
            raise tarfile.ReadError(f"a header at {offset}")
        return self.stream.seek(offset)


# what `tarfile` raises for invalid headers; deep chains of extended ones end in a RecursionError
_BROKEN = (tarfile.TarError, EOFError, RecursionError, ValueError, ArithmeticError, LookupError)


def walk(
    archive: Location,
    *,
    read: Callable[[str], bool],
    left_out: Counter[str] | None = None,
) -> Iterator[Member]:
    """Yield the regular files of an uncompressed tar, in order.

    Sparse members are skipped: their size includes the holes, and the bytes after their header are
    not those of the file.

    Args:
        archive: the tar.
        read: whether to read the content of a member, by name.
        left_out: counts `text_too_long`, members to be read with more than `MAX_TEXT` bytes, which
            are skipped; `sparse_member`; and `archive_cut_short` if the tar ends before its end
            mark: whole members before that are still yielded.

    Raises:
        OSError: it cannot be opened, or is not an uncompressed tar at all.
    """
    counts: Counter[str] = Counter() if left_out is None else left_out
    with reaching(archive), archive.open("rb") as stream:
        try:
            headers = _Headers(stream)
            tar = tarfile.TarFile(fileobj=headers)  # type: ignore[arg-type]
        except _BROKEN as error:
            raise OSError(errno.EINVAL, f"not an uncompressed tar ({error})") from error
        try:
            for info in tar:
                if info.size < 0 or tar.offset <= info.offset:
                    raise tarfile.ReadError("a member that ends before it begins")
                if info.issparse():
                    counts["sparse_member"] += 1
                elif info.isreg():
                    is_read = read(info.name)
                    if is_read and info.size > MAX_TEXT:
                        counts["text_too_long"] += 1
                    else:
                        content = _content(stream, info) if is_read else None
                        yield Member(info.name, info.offset_data, info.size, content)
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            headers.seek(tar.offset)  # the end mark, if there is one
            whole = stream.read(_BLOCK) == bytes(_BLOCK)
        except _BROKEN:
            whole = False
        if not whole:
            counts["archive_cut_short"] += 1


def _content(stream: IO[bytes], info: tarfile.TarInfo) -> bytes:
    stream.seek(info.offset_data)
    content = stream.read(info.size)
    if len(content) < info.size:
        raise EOFError
    return content


@lru_cache(maxsize=32)
def _index(archive: Location, stamp: str) -> dict[str, tuple[int, int]]:
    # stamp: cache key, so that a rewritten archive is walked again
    spans: dict[str, tuple[int, int]] = {}
    for member in walk(archive, read=lambda name: False):
        spans.setdefault(member.name, (member.start, member.size))
    return spans


@lru_cache(maxsize=32)
def _remote_stamp(archive: Location, minute: int) -> str:
    # minute: cache key, to avoid one request per image
    return stamp(archive)


def index(archive: Location) -> dict[str, tuple[int, int]]:
    """Map the name of each member to its start and size in bytes; the first of equal names wins.

    Raises:
        OSError: see `walk`.
    """
    if isinstance(archive, Path):
        return _index(archive, stamp(archive))
    return _index(archive, _remote_stamp(archive, int(time.monotonic() // _REMOTE_SECONDS)))


def resolved(location: Location) -> Location | Span:
    """Return the span of a location that names a member, and any other location unchanged.

    Raises:
        OSError: `FileNotFoundError` if the archive or member does not exist; otherwise see `walk`.
    """
    if _MARK not in str(location) or (parts := _split(location)) is None:
        return location
    archive, member = parts
    if member not in (spans := index(archive)):
        raise FileNotFoundError(errno.ENOENT, "no such member", str(location))
    return Span(archive, *spans[member])


def read_span(span: Span) -> bytes:
    """Read the bytes of a member; fewer if the archive is cut short.

    Raises:
        OSError: the archive cannot be read.
    """
    with reaching(span.archive):
        if isinstance(span.archive, Path):
            with span.archive.open("rb") as stream:
                stream.seek(span.start)
                return stream.read(span.size)
        content = span.archive.fs.cat_file(
            span.archive.path, start=span.start, end=span.start + span.size
        )
        return bytes(content)
