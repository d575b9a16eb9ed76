"""Locations of a user's captions and images: a local path, or a URL that fsspec opens.

A URL such as `s3://bucket/folder` becomes a `UPath`, which has the methods of a `Path`. The backend
finds credentials and endpoints itself: S3 reads the variables and files of every AWS tool.
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
    """Return a local path, or a `UPath` if the text has a file system before `://`.

    Raises:
        OvsegError: the file system is unknown or its package is not installed, or the URL holds a
            password or a token.
        ValueError: the value is neither text nor a path.
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
        raise OvsegError(f"{value}: unknown file system {protocol!r}") from error


def _public(url: Url) -> Url:
    if holds_secret(str(url)):
        raise OvsegError(
            f"{url}: the URL holds a user, a password or a token, which would be stored with"
            " every run: leave it out and set the file system's own variables, such as"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or copy the files to a local folder"
        )
    return url


Place = Annotated[
    Location, PlainValidator(located), PlainSerializer(str, return_type=str, when_used="json")
]
"""A `Location` as a field of a configuration."""

LocalPath = Annotated[Path, AfterValidator(local)]
ModelName = Annotated[str, AfterValidator(model_name)]
PublicUrl = Annotated[str, AfterValidator(public)]
"""The address of a server as a field of a configuration: it holds no secret."""


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Turn whatever a remote file system raises (no credentials, no network) into an OSError.

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
    """Return why something could not be read, on one line."""
    return error.strerror or _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


MOST_TEXT = 2**26
"""Most bytes of a list that a person wrote."""


def read_text(path: Path) -> str:
    """Read the UTF-8 text of a local file, without a byte order mark.

    Args:
        path: a regular file; a pipe or a device might never end.

    Raises:
        OSError: it does not exist, is not a regular file, or is larger than `MOST_TEXT`.
        UnicodeDecodeError: it is not UTF-8.
    """
    status = path.stat()
    if not stat_module.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > MOST_TEXT:
        raise OSError(errno.EFBIG, f"larger than {MOST_TEXT} bytes", str(path))
    return path.read_text(encoding="utf-8-sig")


class Entry(NamedTuple):
    """A file in a folder's listing; `stamp` changes when the file does."""

    name: str
    size: int
    stamp: str


def entries(location: Location) -> list[Entry]:
    """List a file, or the files directly in a folder, sorted by name; never cached.

    Raises:
        OSError: the file or folder does not exist.
    """
    with reaching(location):
        if isinstance(location, Path):
            files = location.iterdir() if location.is_dir() else [location]
            stats = [(file.name, _regular(file)) for file in files if not file.is_dir()]
            return sorted(Entry(name, stat.st_size, str(stat.st_mtime_ns)) for name, stat in stats)
        location.fs.invalidate_cache()
        infos = location.fs.ls(location.path, detail=True)
        return sorted(_entry(info) for info in infos if info["type"] == "file")


def _regular(file: Path) -> os.stat_result:
    status = file.stat()
    if not S_ISREG(status.st_mode):  # opening a pipe waits for a writer
        raise OSError(errno.EINVAL, f"{file.name} is not a regular file", str(file))
    return status


def _entry(info: dict[str, Any]) -> Entry:
    values = (info.get(key) for key in ("ETag", "etag", "LastModified", "mtime", "created"))
    stamp = next((str(value) for value in values if value is not None), "")
    return Entry(str(info["name"]).rstrip("/").rpartition("/")[2], int(info["size"] or 0), stamp)


def stamp(location: Location) -> str:
    """Return a text that changes when the file does.

    Raises:
        OSError: the file does not exist.
    """
    with reaching(location):
        if isinstance(location, Path):
            stat = location.stat()
            return f"{stat.st_size} {stat.st_mtime_ns}"
        location.fs.invalidate_cache()
        entry = _entry(location.fs.info(location.path))
        return f"{entry.size} {entry.stamp}"
