"""Where a user's captions and images lie: a local path, or a URL that fsspec opens.

A URL such as `s3://bucket/folder` becomes a `UPath`, which has the methods of a `Path`. Credentials
and end points are the backend's own matter: for S3 the variables and files every AWS tool reads.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, NamedTuple, TypeVar

import fsspec
from pydantic import AfterValidator, PlainSerializer, PlainValidator
from upath import UPath

from ovseg.errors import OvsegError
from ovseg.files.access import check_text, local, model_name
from ovseg.files.urls import holds_secret, public

Location = Path | UPath
"""A local path or a URL."""
Url = TypeVar("Url", str, UPath)


def located(value: str | Path | UPath) -> Location:
    """A path, or what stands before `://` names a file system and makes it a URL.

    Raises:
        OvsegError: for a file system that nobody knows or whose package is not installed, or a URL
            with a password or a token.
        ValueError: for what is neither text nor a path.
    """
    if isinstance(value, UPath) and not isinstance(value, Path):
        return _public(value)
    if not isinstance(value, str | Path):
        raise ValueError("not a path or URL")
    protocol, is_url, _ = str(value).partition("://")
    if isinstance(value, Path) or not is_url:
        return local(value)
    check_text(value)
    _public(value)
    try:
        fsspec.get_filesystem_class(protocol)
        return UPath(value)
    except ImportError as error:
        extra = " (`pip install 'ovseg[s3]'`)" if protocol in ("s3", "s3a") else ""
        raise OvsegError(f"{value}: {_line(error)}{extra}") from error
    except ValueError as error:
        raise OvsegError(f"{value}: no file system is named {protocol!r}") from error


def _public(url: Url) -> Url:
    if holds_secret(str(url)):
        raise OvsegError(
            f"{url}: the URL holds a user, a password or a token, which would be stored with"
            " every run: leave it out and set what its file system asks for, such as"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or copy the files to a local folder"
        )
    return url


Place = Annotated[
    Location, PlainValidator(located), PlainSerializer(str, return_type=str, when_used="json")
]
"""A `Location` as the field of a configuration."""

LocalPath = Annotated[Path, AfterValidator(local)]
ModelName = Annotated[str, AfterValidator(model_name)]
PublicUrl = Annotated[str, AfterValidator(public)]
"""The address of a server as the field of a configuration: it holds no secret."""


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Within it, whatever a remote file system raises (no credentials, no network) is an OSError.

    Raises:
        OSError: `FileNotFoundError`, or another with the reason on one line.
    """
    try:
        yield
    except (OSError, OvsegError):
        raise
    except Exception as error:
        if isinstance(location, Path):
            raise
        raise OSError(errno.EIO, _line(error)) from error


def reason(error: OSError) -> str:
    """Why something could not be read, on one line."""
    return error.strerror or _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


MOST_TEXT = 2**26
"""Bytes of a list that a person wrote."""


def read_text(path: Path) -> str:
    """The UTF-8 text of a local file, without a byte order mark.

    Args:
        path: a regular file; a pipe or a device might never end.

    Raises:
        OSError: it is not there, not a regular file, or larger than `MOST_TEXT`.
        UnicodeDecodeError: it is not UTF-8.
    """
    found = path.stat()
    if not stat_module.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if found.st_size > MOST_TEXT:
        raise OSError(errno.EFBIG, f"larger than {MOST_TEXT} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")


class Entry(NamedTuple):
    """A file as its folder lists it; `stamp` changes when the file does."""

    name: str
    size: int
    stamp: str


def entries(location: Location) -> list[Entry]:
    """A file, or the files that lie directly in a folder, sorted by name; asks anew every time.

    Raises:
        OSError: if there is no such file or folder.
    """
    with reaching(location):
        if isinstance(location, Path):
            files = location.iterdir() if location.is_dir() else [location]
            stats = [(file.name, _regular(file)) for file in files if not file.is_dir()]
            return sorted(Entry(name, stat.st_size, str(stat.st_mtime_ns)) for name, stat in stats)
        location.fs.invalidate_cache()
        listed = location.fs.ls(location.path, detail=True)
        return sorted(_entry(info) for info in listed if info["type"] == "file")


def _regular(file: Path) -> os.stat_result:
    found = file.stat()
    if not S_ISREG(found.st_mode):  # to open a pipe waits for a writer
        raise OSError(errno.EINVAL, f"{file.name} is not a regular file", str(file))
    return found


def _entry(info: dict[str, Any]) -> Entry:
    known = (info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created"))
    stamp = next((str(value) for value in known if value is not None), "")
    return Entry(str(info["name"]).rstrip("/").rpartition("/")[2], int(info["size"] or 0), stamp)


def stamp(location: Location) -> str:
    """What changes when a file does.

    Raises:
        OSError: if there is no such file.
    """
    with reaching(location):
        if isinstance(location, Path):
            stat = location.stat()
            return f"{stat.st_size} {stat.st_mtime_ns}"
        location.fs.invalidate_cache()
        entry = _entry(location.fs.info(location.path))
        return f"{entry.size} {entry.stamp}"
