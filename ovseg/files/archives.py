"""Members of tar shards, read where they lie: nothing is unpacked.

An image in a shard is named `shards/00000.tar#000000012.jpg`: the archive, `#`, the member. The
first time an archive is asked for a member its headers are walked through once; from then on a
member is the range of bytes that it is.
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
"""Bytes of a member that is read on the way; a caption has fewer, and what is said of an image."""
MAX_HEADER = 2**20
"""Bytes of an extended header, which holds a name or a note."""
_BLOCK = 512
_REMOTE_SECONDS = 60  # how long a remote archive is taken for unchanged without asking


class Span(NamedTuple):
    """The bytes of one member."""

    archive: Location
    start: int
    size: int


class Member(NamedTuple):
    """A regular file of an archive; `content` where it was asked for."""

    name: str
    start: int
    size: int
    content: bytes | None


def member_name(archive: str, member: str) -> str:
    """The file name of a member, as captions and tables hold it."""
    return f"{archive}#{member}"


def split_name(file_name: str) -> tuple[str, str] | None:
    """Archive and member of a file name; None where it names no member."""
    before, mark, member = file_name.partition(_MARK)
    return (before + ENDING, member) if mark and member else None


def _split(location: Location) -> tuple[Location, str] | None:
    """Archive and member of a location whose path names a member."""
    places: list[Location] = [location, *location.parents]
    for depth, place in enumerate(places):
        before, mark, member = place.name.partition(_MARK)
        if mark:
            below = [inner.name for inner in reversed(places[:depth])]
            return place.with_name(before + ENDING), "/".join([member, *below])
    return None


class _Headers:
    """What `tarfile` reads headers through: none is larger than the bound, or out of the file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.tell = stream, stream.tell
        self.end = stream.seek(0, os.SEEK_END)
        stream.seek(0)

    def read(self, size: int) -> bytes:
        """Bytes of a header, however many it says that it has."""
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self.stream.read(size)

    def seek(self, offset: int) -> int:
        """Go to where a header says that the next one is."""
        if not 0 <= offset <= self.end:
            raise tarfile.ReadError(f"a header at {offset}")
        return self.stream.seek(offset)


# what `tarfile` raises at headers that are none; deep chains of extended ones end in the third
_BROKEN = (tarfile.TarError, EOFError, RecursionError, ValueError, ArithmeticError, LookupError)


def walk(
    archive: Location,
    *,
    read: Callable[[str], bool],
    left_out: Counter[str] | None = None,
) -> Iterator[Member]:
    """The regular files of an uncompressed tar, in order.

    A sparse member is not one: its size is what it would have without the holes, and the bytes
    after its header are not those of the file.

    Args:
        archive: the tar.
        read: of which members, by name, the content is read on the way.
        left_out: gets `text_too_long` for a member to be read of more than `MAX_TEXT` bytes,
            which is not given; `sparse_member`; and `archive_cut_short` where the tar ends before
            its end mark: what is whole before that is given all the same.

    Raises:
        OSError: if it cannot be opened, or is not an uncompressed tar at all.
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
                    wanted = read(info.name)
                    if wanted and info.size > MAX_TEXT:
                        counts["text_too_long"] += 1
                    else:
                        content = _content(stream, info) if wanted else None
                        yield Member(info.name, info.offset_data, info.size, content)
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
            headers.seek(tar.offset)  # of the end mark, where there is one
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
    # the stamp is part of the key only: an archive that was written anew is walked through again
    found: dict[str, tuple[int, int]] = {}
    for member in walk(archive, read=lambda name: False):
        found.setdefault(member.name, (member.start, member.size))
    return found


@lru_cache(maxsize=32)
def _remote_stamp(archive: Location, minute: int) -> str:
    # the minute is part of the key only: a request for each image would be too many
    return stamp(archive)


def index(archive: Location) -> dict[str, tuple[int, int]]:
    """Start and size in bytes of each member by name; of two of one name the first.

    Raises:
        OSError: as `walk`.
    """
    if isinstance(archive, Path):
        return _index(archive, stamp(archive))
    return _index(archive, _remote_stamp(archive, int(time.monotonic() // _REMOTE_SECONDS)))


def resolved(location: Location) -> Location | Span:
    """The span of a location that names a member; any other location as it is.

    Raises:
        OSError: `FileNotFoundError` without archive or member, or as `walk`.
    """
    if _MARK not in str(location) or (parts := _split(location)) is None:
        return location
    archive, member = parts
    if member not in (found := index(archive)):
        raise FileNotFoundError(errno.ENOENT, "no such member", str(location))
    return Span(archive, *found[member])


def read_span(span: Span) -> bytes:
    """The bytes of a member; fewer where the archive is cut short.

    Raises:
        OSError: if the archive cannot be read.
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
