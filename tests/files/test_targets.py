"""Where a command may write: folders it made itself, files that nobody needs."""

import os
from pathlib import Path

import pytest

from ovseg.errors import OvsegError
from ovseg.files.access import check_file_target, check_new, check_replaceable, list_files


def _made(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    list_files(folder, "ovseg make")
    return folder


def test_what_is_missing_empty_or_our_own_may_be_replaced(tmp_path: Path):
    check_replaceable(tmp_path / "new", "ovseg make")
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty", "ovseg make")
    made = _made(tmp_path / "made")
    check_replaceable(made, "ovseg make")
    (made / "a.txt").unlink()  # less than we wrote is still nothing of anybody else's
    check_replaceable(made, "ovseg make")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "mine.txt").write_text("x"),
            "holds mine.txt, which ovseg make did not write",
        ),
        (lambda f: (f / "sub" / "c").mkdir(), "holds sub/c, which ovseg make did not write"),
        (lambda f: (f / "sub" / "b.txt").write_text("B"), "holds sub/b.txt, changed since"),
        (
            lambda f: (f / "ovseg-files.json").unlink(),
            "but ovseg make did not make it: name a new folder",
        ),
        (lambda f: (f / "ovseg-files.json").write_text("[]"), "ovseg-files.json is damaged"),
        (lambda f: (f / "ovseg-files.json").write_text("[" * 99999), "ovseg-files.json is damaged"),
        (lambda f: list_files(f, "ovseg other"), "but ovseg make did not make it"),
        (lambda f: ((f / "a.txt").unlink(), (f / "a.txt").symlink_to("/etc/hosts")), "holds a.txt"),
        (lambda f: ((f / "a.txt").unlink(), (f / "a.txt").mkdir()), "holds a.txt, changed since"),
    ],
)
def test_a_folder_that_holds_anything_else_is_not_replaced(tmp_path: Path, change, message):
    folder = _made(tmp_path / "made")
    change(folder)
    with pytest.raises(OvsegError, match=message):
        check_replaceable(folder, "ovseg make")


def test_files_and_links_are_not_replaced_by_a_folder(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OvsegError, match="exists and is not a folder"):
        check_replaceable(tmp_path / "file", "ovseg make")
    (tmp_path / "link").symlink_to(_made(tmp_path / "made"))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        with pytest.raises(OvsegError, match="is a symbolic link"):
            check_replaceable(tmp_path / name, "ovseg make")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p.symlink_to(p.with_name("victim")), "is a symbolic link: name the file itself"),
        (lambda p: p.mkdir(), "is a folder: name a file"),
        (lambda p: os.mkfifo(p), "is a device or a pipe: name a file"),
        (lambda p: os.link(p.with_name("input"), p), "is the input itself"),
    ],
)
def test_links_folders_devices_and_inputs_are_not_written(tmp_path: Path, make, message):
    for name in ("input", "victim"):
        (tmp_path / name).write_text(name)
    make(tmp_path / "out.png")
    with pytest.raises(OvsegError, match=message):
        check_file_target(tmp_path / "out.png", inputs=[tmp_path / "input"])


def test_new_and_old_files_may_be_written(tmp_path: Path):
    check_file_target(tmp_path / "new.png")
    (tmp_path / "old.png").write_text("x")
    check_file_target(tmp_path / "old.png", inputs=[tmp_path / "not there"])
    for name in ("a/b.png", "a" * 300 + ".png", "a\0b.png"):
        with pytest.raises(OvsegError, match=r"does not exist|cannot be written"):
            check_file_target(tmp_path / name)


def test_a_folder_that_holds_anything_is_not_new(tmp_path):
    check_new(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_new(tmp_path / "empty")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.md").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("taken", "taken/notes.md", "link"):
        with pytest.raises(OvsegError, match="already exists: name a new folder"):
            check_new(tmp_path / name)
