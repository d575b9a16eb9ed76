"""A catalogue of a root that was moved, copied or restored, or that leads out of it."""

import json
import shutil
from pathlib import Path

import pytest

from ovseg.catalog.catalog import build_catalog, current, open_catalog
from ovseg.cli.sql import sql_command
from ovseg.errors import OvsegError
from tests.catalog.test_catalog import rows, value


def test_a_moved_root_is_rebuilt_from_its_pointers(toy, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    table = toy.publish_table(old)
    build_catalog(old, {"table": table})
    old.rename(new)
    build_catalog(new, {})
    with open_catalog(new) as con:
        assert value(con, "select count(*) from pairs") == table.rows


def counted(root, capsys):
    """What `ovseg sql` counts, and the folders whose files it is answered from."""
    sql_command(None, command="select count(*) as n from pairs", root=root)
    number = capsys.readouterr().out.split()[1]
    with open_catalog(root) as con:
        folders = {Path(row[0]) for row in rows(con, "select folder from published")}
    return int(number), folders


def test_a_copied_root_answers_from_its_own_files(toy, tmp_path, capsys):
    first, copy = tmp_path / "first", tmp_path / "copy"
    build_catalog(first, {"table": toy.publish_table(first)})
    shutil.copytree(first, copy)
    again = toy.publish_table(first, toy.pair_rows()[:4])
    build_catalog(first, {"table": again})
    n, folders = counted(copy, capsys)
    assert n == len(toy.pair_rows()) != again.rows
    assert all(folder.is_relative_to(copy.resolve()) for folder in folders)
    shutil.rmtree(first)
    assert counted(copy, capsys) == (n, folders)
    assert not list(copy.glob("*.tmp-*"))


def test_a_moved_root_answers_and_is_built_once(toy, tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "deeper" / "new"
    build_catalog(old, {"table": toy.publish_table(old), "b": toy.publish_table(old, round=1)})
    new.parent.mkdir()
    old.rename(new)
    n, folders = counted(new, capsys)
    assert n == 2 * len(toy.pair_rows())
    assert all(folder.is_relative_to(new.resolve()) for folder in folders)
    built = (new / "catalog.duckdb").stat()
    assert counted(new, capsys) == (n, folders)
    assert (new / "catalog.duckdb").stat().st_ino == built.st_ino
    (tmp_path / "link").symlink_to(new)  # another name of the same place is not another place
    assert counted(tmp_path / "link", capsys) == (n, folders)
    assert (new / "catalog.duckdb").stat().st_ino == built.st_ino


def test_a_moved_root_goes_on_with_what_it_has(toy, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    table = toy.publish_table(old)
    old.rename(new)
    before = sorted((path, path.stat().st_mtime_ns) for path in new.rglob("*.parquet"))
    again = toy.publish_table(new)
    assert again.digest == table.digest
    assert sorted((path, path.stat().st_mtime_ns) for path in new.rglob("*.parquet")) == before


def test_a_catalogue_restored_without_its_database_is_built(toy, tmp_path, capsys):
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path)})
    (tmp_path / "catalog.duckdb").unlink()
    assert counted(tmp_path, capsys)[0] == len(toy.pair_rows())


def test_a_copy_that_cannot_be_written_says_what_to_run(toy, tmp_path, monkeypatch):
    first, copy = tmp_path / "first", tmp_path / "copy"
    build_catalog(first, {"table": toy.publish_table(first)})
    shutil.copytree(first, copy)
    before = (copy / "catalog.duckdb").read_bytes()
    (copy / "catalog.json").unlink()
    (copy / "catalog.json").mkdir()  # what no file replaces, not for root either
    with pytest.raises(OvsegError, match=r"catalog\.duckdb names the files of .*first") as caught:
        open_catalog(copy)
    assert f"run `ovseg sql --root {copy} funnel` once as a user with write access" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert (copy / "catalog.duckdb").read_bytes() == before
    assert not list(copy.glob("*.tmp-*"))


def test_results_outside_the_root_are_refused(toy, tmp_path):
    table = toy.publish_table(tmp_path / "elsewhere")
    with pytest.raises(OvsegError, match=r"elsewhere/tables/.* lies outside of .*root"):
        build_catalog(tmp_path / "root", {"table": table})
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("folder", ["{other}", "../other", "tables/../../other", "/etc", ""])
def test_a_catalogue_that_leads_out_of_its_root_is_refused(toy, tmp_path, folder):
    root, other = tmp_path / "root", tmp_path / "other"
    table = toy.publish_table(root)
    build_catalog(root, {"table": table})
    table.folder.rename(other)
    content = json.loads((root / "catalog.json").read_text())
    content["current"][0]["folder"] = folder.format(other=other)
    (root / "catalog.json").write_text(json.dumps(content))
    for read in (lambda: current(root, "tables/pairs"), lambda: build_catalog(root, {})):
        with pytest.raises(OvsegError, match="leads out of its folder") as error:
            read()
        assert str(error.value).startswith(f"{root / 'catalog.json'} is not a catalog (folder: ")
        assert "\n" not in str(error.value)


def test_a_result_that_is_a_link_out_of_the_root_leaves_the_catalogue(toy, tmp_path, caplog):
    root, other = tmp_path / "root", tmp_path / "other"
    table = toy.publish_table(root)
    build_catalog(root, {"table": table})
    table.folder.rename(other)
    table.folder.symlink_to(other)
    assert current(root, "tables/pairs") == []
    assert "left out of the catalog" in caplog.text and "leads out of" in caplog.text
    moved = tmp_path / "link"
    moved.symlink_to(root)  # the root itself may be one
    table.folder.unlink()
    other.rename(table.folder)
    (item,) = current(moved, "tables/pairs")
    assert item.manifest.content_digest == table.content_digest
