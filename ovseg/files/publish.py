"""Atomic publishing: results are written to a temporary name, made durable, and renamed in place.

    with published(path) as temporary:
        write_parquet(table, temporary)

A reader sees either the old file or folder or the new one, never half of one, even while several
processes publish the same name. An error in writing becomes one line (`writing`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovseg.errors import OvsegError


def temporary_name(path: Path) -> Path:
    """Return a name next to `path` that no reader looks at: `<name>.tmp-<uuid>`."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")


def discard(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(NotADirectoryError):  # a file is in the place of its folder
            path.unlink(missing_ok=True)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write a file or folder to, which is renamed to `path` at the end.

    The parent folder is made. An error leaves `path` as it was, and nothing else.

    Raises:
        WriteError: it cannot be written.
    """
    temporary = temporary_name(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            publish(temporary, path)
        finally:
            discard(temporary)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Lock an existing folder for the block; other threads and processes wait for their turn."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def publish_text(text: str, path: Path) -> None:
    """Write a text file atomically.

    Raises:
        WriteError: it cannot be written.
    """
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary file or folder its final name, durably and atomically.

    It gets the permissions that the umask leaves to new files. A folder replaces whatever is at
    `path`; a file does not replace a folder.

    Raises:
        OSError: the rename failed; the caller discards `temporary`.
    """
    folder = temporary.is_dir()
    for item in [temporary, *temporary.rglob("*")] if folder else [temporary]:
        if not item.is_symlink():
            permit(item)
            _fsync(item)
    if folder:
        _put_folder(temporary, path)
    else:
        temporary.replace(path)
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def permit(path: Path) -> None:
    """Add the permissions that the umask grants but the writer left out."""
    mode = path.stat().st_mode
    permissions = stat.S_IMODE(mode) | (0o777 if stat.S_ISDIR(mode) else 0o666) & ~_umask()
    if permissions != stat.S_IMODE(mode):
        path.chmod(permissions)


def _umask() -> int:
    """Return the process's umask; systems without /proc need it set for a moment to read it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("\nUmask:")[2].split(None, 1)[0], 8)
    except (OSError, ValueError, IndexError):
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


def _put_folder(temporary: Path, path: Path) -> None:
    """Rename a folder, even onto one that exists or that another process creates meanwhile.

    If the system can swap two names in one step, `path` never goes missing.
    """
    aside = temporary_name(path)
    try:
        while True:
            try:
                temporary.rename(path)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            with contextlib.suppress(FileNotFoundError):  # another process just removed it
                if _exchange(temporary, path):
                    return  # the old content now has the temporary name
                path.rename(aside)
                discard(aside)
    finally:
        discard(temporary)
        discard(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False if the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.ENOENT:
        raise FileNotFoundError(code, os.strerror(code), str(other))
    return False


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Errors that only writing raises, whichever library reports them."""
_ADVICE = {
    errno.ENOSPC: "free some space and run again, finished work is kept",
    errno.EDQUOT: "free some of your quota and run again, finished work is kept",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "make it writable for yourself or choose another folder",
    errno.EPERM: "make it writable for yourself or choose another folder",
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.ELOOP: "choose a folder that is not a link to itself",
    errno.EISDIR: "move that folder away or choose another one for the results",
    errno.ENOTDIR: "move that file away or choose another folder",
    errno.EEXIST: "move that file away or choose another folder",
    errno.ENOENT: "the folder is gone: run again",
}


class WriteError(OvsegError):
    """Something cannot be written.

    Attributes:
        errno: the system's error number.
        passing: whether it may pass with time, such as an unreachable network file system.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.errno, self.passing = code, code not in _ADVICE


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors in writing `path` into one line with the reason and advice.

    Errors unrelated to `path`, such as those of reading other files, are left alone.

    Args:
        path: the final name of the file or folder that is written.

    Raises:
        WriteError: it cannot be written.
    """
    try:
        yield
    except OvsegError:
        raise
    except Exception as error:
        code = _write_errno(error, path)
        if code is None:
            raise
        raise WriteError(_reason(code, path), code) from error


def _write_errno(error: Exception, path: Path) -> int | None:
    """Return the system's error number if the error keeps `path` from being written, else None."""
    text = str(error)
    here = str(path.parent) in text  # C++ and Rust libraries set no `filename`, only a message
    if isinstance(error, OSError) and error.errno is not None:
        names = [name for name in (error.filename, error.filename2) if name is not None]
        here |= any(_at(Path(os.fsdecode(name)), path) for name in names if not _is_number(name))
        if error.errno == errno.ENOENT:  # otherwise an input is missing
            here &= not path.parent.is_dir()
        return int(error.errno) if error.errno in FULL or here else None
    codes: tuple[int, ...] = (*FULL, errno.EACCES, errno.ENAMETOOLONG) if here else FULL
    for code in codes:
        if os.strerror(code) in text or f"(os error {code})" in text:
            return code
    cut_short = isinstance(error, OSError | RuntimeError)  # without a reason
    return errno.ENOSPC if cut_short and _no_room(path) else None


def _is_number(name: object) -> bool:
    return isinstance(name, int)  # a file descriptor


def _at(name: Path, path: Path) -> bool:
    """Whether a name is, contains or is inside the folder of `path`."""
    folder = path.parent.absolute()
    return name.absolute().is_relative_to(folder) or folder.is_relative_to(name.absolute())


def _no_room(path: Path) -> bool:
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free < 2**16
    return False


def _reason(code: int, path: Path) -> str:
    reason = os.strerror(code)
    advice = _ADVICE.get(code, "check the disk and run again, finished work is kept")
    with contextlib.suppress(OSError):
        if code in (errno.EISDIR, errno.EEXIST) and path.is_dir():
            reason, advice = "it is a folder", _ADVICE[errno.EISDIR]
        elif code in (errno.ENOTDIR, errno.EEXIST):
            file = next(parent for parent in path.parents if parent.exists())
            reason = f"{file} is not a folder"
    return f"{path} cannot be written: {reason[:1].lower()}{reason[1:]}; {advice}"
