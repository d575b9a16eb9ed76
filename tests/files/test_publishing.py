"""Publishing: all at once, by several processes too, with the umask's modes, errors of one line."""

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ovseg.errors import OvsegError
from ovseg.files.parquet_files import write_parquet
from ovseg.files.publish import WriteError, publish_text, published, writing

PUBLISHER = """
import sys
from pathlib import Path
from ovseg.files.publish import published
path, name = Path(sys.argv[1]), sys.argv[2]
for number in range(60):
    with published(path) as temporary:
        temporary.mkdir()
        for part in "abc":
            (temporary / part).write_text(f"{name} {number}")
"""


def publish_folder(path: Path, text: str) -> None:
    with published(path) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text(text)


def test_two_processes_publish_one_folder_and_a_reader_always_sees_a_whole_one(tmp_path: Path):
    path = tmp_path / "payload"
    publish_folder(path, "first")
    writers = [
        subprocess.Popen([sys.executable, "-c", PUBLISHER, str(path), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        folder = os.open(path, os.O_RDONLY)  # there is one at every moment
        try:
            names = os.listdir(folder)  # noqa: PTH208 - of this very folder, whatever has its name
        finally:
            os.close(folder)
        # it may just be replaced and removed, but it was never half-written
        assert set(names) <= {"a", "b", "c"}
        seen += 1
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [(b"", 0)] * 2
    assert seen > 10
    texts = {(path / part).read_text() for part in "abc"}
    assert texts in ({"one 59"}, {"two 59"})
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ovseg.files.publish._exchange", lambda one, other: False)
    for text in ("old", "new"):
        publish_folder(tmp_path / "payload", text)
    assert (tmp_path / "payload" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["payload"]


def test_a_link_is_replaced_not_followed(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    publish_folder(elsewhere, "mine")
    (tmp_path / "payload").symlink_to(elsewhere)
    (tmp_path / "text").symlink_to(elsewhere / "a")
    publish_folder(tmp_path / "payload", "new")
    publish_text("new", tmp_path / "text")
    assert not (tmp_path / "payload").is_symlink() and not (tmp_path / "text").is_symlink()
    assert (elsewhere / "a").read_text() == "mine"


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_what_is_published_has_the_modes_of_the_umask(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        with published(tmp_path / "payload") as temporary:
            (temporary / "sub").mkdir(parents=True)
            save_file({"a": torch.zeros(2)}, temporary / "sub" / "a.safetensors")
            torch.save({}, temporary / "a.pt")
            write_parquet(pa.table({"a": [1]}), temporary / "a.parquet")
        with published(tmp_path / "a.duckdb") as temporary:
            duckdb.connect(str(temporary)).close()
        publish_text("{}", tmp_path / "a.json")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    folders = {"payload", "sub"}
    assert modes == {
        name: (0o777 if name in folders else 0o666) & ~umask
        for name in (*folders, "a.safetensors", "a.pt", "a.parquet", "a.duckdb", "a.json")
    }


# --------------------------------------------------------------------------------------
# What keeps a file from being written


def write_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(2**16)}, path)


def write_checkpoint(path: Path) -> None:
    torch.save({"a": torch.zeros(2**16)}, path)


def write_table(path: Path) -> None:
    write_parquet(pa.table({"a": np.random.default_rng(0).random(2**16)}), path)


def write_picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def write_database(path: Path) -> None:
    with duckdb.connect(str(path)) as con:
        con.execute("create table t as select random() as a from range(100000)")


def write_text(path: Path) -> None:
    path.write_text("x" * 2**18)


def write_folder(path: Path) -> None:
    path.mkdir()
    (path / "small").write_text("x")
    write_text(path / "large")


WRITERS = [
    write_safetensors,
    write_checkpoint,
    write_table,
    write_picture,
    write_database,
    write_text,
    write_folder,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk: Path, write: Callable):
    path = small_disk / "result"
    path.write_text("old")
    with pytest.raises(WriteError) as error, published(path) as temporary:
        write(temporary)
    assert str(error.value) == (
        f"{path} cannot be written: no space left on device; free some space and run again,"
        " finished work is kept"
    )
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert not [left for left in small_disk.iterdir() if left.suffix != ".wal" and left != path]


def test_a_disk_that_became_read_only_is_one_line(small_disk: Path):
    (small_disk / "result").write_text("old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for write in (write_text, write_database, write_safetensors):
        with (
            pytest.raises(OvsegError, match="read-only file system; choose a folder that can"),
            published(small_disk / "result") as temporary,
        ):
            write(temporary)
    assert (small_disk / "result").read_text() == "old"


@pytest.mark.parametrize(
    "write", [each for each in WRITERS if each is not write_checkpoint], ids=lambda w: w.__name__
)
def test_a_limit_on_the_size_of_files_is_one_line(tmp_path: Path, write: Callable):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, before[1]))
    try:
        with pytest.raises(WriteError) as error, published(tmp_path / "result") as temporary:
            write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "file too large; raise the limit on the size of files" in str(error.value)
    assert not [left for left in tmp_path.iterdir() if left.suffix != ".wal"]


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("mine")
    return folder / "file" / "deep" / "result"


def over_a_folder(folder: Path) -> Path:
    (folder / "result" / "mine").mkdir(parents=True)
    return folder / "result"


def of_a_long_name(folder: Path) -> Path:
    return folder / ("n" * 300) / "result"


def below_a_loop(folder: Path) -> Path:
    (folder / "loop").symlink_to(folder / "loop")
    return folder / "loop" / "result"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (below_a_file, "file is not a folder; move that file away or choose another folder"),
        (over_a_folder, "it is a folder; move that folder away or choose another one"),
        (of_a_long_name, "file name too long; choose a folder with a shorter path"),
        (below_a_loop, "too many levels of symbolic links; choose a folder that"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path, place, reason: str):
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OvsegError) as error:
        publish_text("text", path)
    assert str(error.value).startswith(f"{path} cannot be written: ")
    assert reason in str(error.value) and "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_has_nothing_to_do_with_writing_passes(tmp_path: Path):
    """The file of a reader that is missing, a connection that broke, a bug: not the disk's."""
    other = tmp_path / "images"
    for error in (
        FileNotFoundError(errno.ENOENT, "No such file", str(other / "a.jpg")),
        PermissionError(errno.EACCES, "Permission denied", str(other / "a.jpg")),
        FileNotFoundError(errno.ENOENT, "No such file", str(tmp_path / "pairs" / "x" / "made")),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        OSError(errno.EIO, "Input/output error"),
        ValueError("a bug"),
    ):
        (tmp_path / "pairs" / "x").mkdir(parents=True, exist_ok=True)
        with pytest.raises(type(error)) as seen, writing(tmp_path / "pairs" / "x" / "shard"):
            raise error
        assert seen.value is error
