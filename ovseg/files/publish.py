"""How results get their names: written aside, made durable, put in place all at once.

    with published(path) as temporary:
        write_parquet(table, temporary)

A reader sees the old file or folder or the new one, never half of one, also while several processes
publish the same name. What keeps a file from being written is one line (`writing`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ovseg.errors import OvsegError


def temporary_name(path: Path) -> Path:
    """A name next to `path` that no reader looks at: `<name>.tmp-<uuid>`."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")


def discard(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(NotADirectoryError):  # a file stands where its folder would be
            path.unlink(missing_ok=True)


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Within it a temporary name is written to, as a file or a folder; at its end it gets `path`.

    The folder above is made. An error leaves what was at `path`, and nothing else.

    Raises:
        WriteError: if it cannot be written.
    """
    temporary = temporary_name(path)
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            publish(temporary, path)
        finally:
            discard(temporary)


def publish_text(text: str, path: Path) -> None:
    """Write a text file atomically.

    Raises:
        WriteError: if it cannot be written.
    """
    with published(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished temporary file or folder its name, durably and all at once.

    It gets the permissions that the umask leaves to new files. A folder replaces what is at `path`;
    a file does not replace a folder.

    Raises:
        OSError: if it cannot; the caller discards `temporary`.
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
    """Add the permissions that a writer withheld from others though the umask grants them."""
    mode = path.stat().st_mode
    wanted = stat.S_IMODE(mode) | (0o777 if stat.S_ISDIR(mode) else 0o666) & ~_umask()
    if wanted != stat.S_IMODE(mode):
        path.chmod(wanted)


def _umask() -> int:
    """The process's umask; only where the system does not tell is it set for a moment."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("\nUmask:")[2].split(None, 1)[0], 8)
    except (OSError, ValueError, IndexError):
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


_RENAME_EXCHANGE, _AT_FDCWD = 2, -100


def _put_folder(temporary: Path, path: Path) -> None:
    """Rename a folder, also onto one that is there or that another process puts there meanwhile.

    Where the system can exchange two names in one step there is always a folder of that name.
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
            with contextlib.suppress(FileNotFoundError):  # another process has just taken it away
                if _exchange(temporary, path):
                    return  # what was there has the temporary name
                path.rename(aside)
                discard(aside)
    finally:
        discard(temporary)
        discard(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
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
"""Errors that only writing ends in, whatever library reports them."""
_ADVICE = {
    errno.ENOSPC: "free some space and run again, what is finished is kept",
    errno.EDQUOT: "free some of your quota and run again, what is finished is kept",
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
        errno: of the system.
        passing: whether time may cure it, as of a network file system that is away.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.errno, self.passing = code, code not in _ADVICE


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within it, what keeps `path` from being written is one line with the reason and the advice.

    Errors that have nothing to do with `path` pass: those of files elsewhere that are read.

    Args:
        path: of the file or folder that is written, under its final name.

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
    """The number of the system's error that keeps `path` from being written, if it is one."""
    text = str(error)
    here = str(path.parent) in text  # libraries in C++ and Rust have no `filename`, only words
    if isinstance(error, OSError) and error.errno is not None:
        names = [name for name in (error.filename, error.filename2) if name is not None]
        here |= any(_at(Path(os.fsdecode(name)), path) for name in names if not _is_number(name))
        if error.errno == errno.ENOENT:  # else it is a file that ought to have been made before
            here &= not path.parent.is_dir()
        return int(error.errno) if error.errno in FULL or here else None
    codes: tuple[int, ...] = (*FULL, errno.EACCES, errno.ENAMETOOLONG) if here else FULL
    for code in codes:
        if os.strerror(code) in text or f"(os error {code})" in text:
            return code
    cut_short = isinstance(error, OSError | RuntimeError)  # they do not say why
    return errno.ENOSPC if cut_short and _no_room(path) else None


def _is_number(name: object) -> bool:
    return isinstance(name, int)  # of an open file


def _at(name: Path, path: Path) -> bool:
    """Whether a name is at, above, or below the folder of `path`."""
    folder = path.parent.absolute()
    return name.absolute().is_relative_to(folder) or folder.is_relative_to(name.absolute())


def _no_room(path: Path) -> bool:
    for folder in path.parents:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free < 2**16
    return False


def _reason(code: int, path: Path) -> str:
    reason = os.strerror(code)
    advice = _ADVICE.get(code, "check the disk and run again, what is finished is kept")
    with contextlib.suppress(OSError):
        if code in (errno.EISDIR, errno.EEXIST) and path.is_dir():
            reason, advice = "it is a folder", _ADVICE[errno.EISDIR]
        elif code in (errno.ENOTDIR, errno.EEXIST):
            file = next(parent for parent in path.parents if parent.exists())
            reason = f"{file} is not a folder"
    return f"{path} cannot be written: {reason[:1].lower()}{reason[1:]}; {advice}"


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as zstd Parquet, byte-identical for equal tables; not atomic by itself."""
    pq.write_table(table, path, compression="zstd", row_group_size=122_880, store_schema=True)
