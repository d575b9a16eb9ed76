"""Tables that fail a check are not published: the good ones stay, the others can be queried."""

import json
import shutil

import pytest

from ovseg.catalog.catalog import BlockedError, build_catalog, current, open_catalog
from ovseg.catalog.query import failed_checks
from ovseg.cli.sql import sql_command
from ovseg.errors import OvsegError
from ovseg.files.sql_files import SqlFile, sql_files


def gate(con):
    return list(failed_checks(con))


def files(root):
    return {path.name for path in root.iterdir() if path.is_file()}


def nouns(root, state="current"):
    with open_catalog(root, state) as con:
        return {row[0] for row in con.sql("select distinct noun from pairs").fetchall()}


@pytest.fixture
def rows(toy):
    """Pair rows that pass every check; `wrong` ones have a similarity that no cosine has."""
    good = toy.pair_rows()
    wrong = [{**row, "noun": "wolf"} if row["noun"] == "dog" else row for row in toy.pair_rows()]
    next(row for row in wrong if row["kept"])["clip_similarity"] = 7.0
    return good, wrong


def test_a_table_that_fails_is_not_published(toy, rows, tmp_path, capsys):
    good, wrong = rows
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, good)}, gate=gate)
    assert files(tmp_path) == {"catalog.json", "catalog.duckdb"}
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    of_good = json.loads(before["catalog.json"])["current"]

    bad = toy.publish_table(tmp_path, wrong)
    for _ in range(2):  # the same table again is blocked again
        with pytest.raises(BlockedError, match="fail similarities_are_cosines, so they were not"):
            build_catalog(tmp_path, {"table": bad}, gate=gate)
        assert (tmp_path / "catalog.duckdb").read_bytes() == before["catalog.duckdb"]
        written = json.loads((tmp_path / "catalog.json").read_text())
        assert written["current"] == of_good
        assert bad.digest in str(written["rejected"]) and bad.digest not in str(of_good)
        assert "dog" in nouns(tmp_path) and "wolf" not in nouns(tmp_path)
        assert "wolf" in nouns(tmp_path, "rejected")
    sql_command(None, command="select max(clip_similarity) as s from pairs", root=tmp_path)
    assert capsys.readouterr().out.splitlines()[1].strip() == "0.75"
    sql_command(
        None, command="select max(clip_similarity) as s from pairs", root=tmp_path, state="rejected"
    )
    assert capsys.readouterr().out.splitlines()[1].strip() == "7"


def test_the_next_good_table_ends_the_rejected_state(toy, rows, tmp_path):
    good, wrong = rows
    with pytest.raises(BlockedError):
        build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, wrong)}, gate=gate)
    assert current(tmp_path, "tables/pairs") == [] and not (tmp_path / "catalog.duckdb").exists()
    build_catalog(tmp_path, {})  # whoever publishes something else leaves it
    assert "wolf" in nouns(tmp_path, "rejected")
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, good)}, gate=gate)
    assert files(tmp_path) == {"catalog.json", "catalog.duckdb"}
    assert set(json.loads((tmp_path / "catalog.json").read_text())) == {"current"}
    with pytest.raises(OvsegError, match="has no rejected tables: leave --state out"):
        open_catalog(tmp_path, "rejected")


def test_what_is_rejected_moves_with_its_root(toy, rows, tmp_path):
    good, wrong = rows
    home = tmp_path / "home"
    build_catalog(home, {"table": toy.publish_table(home, good)}, gate=gate)
    with pytest.raises(BlockedError):
        build_catalog(home, {"table": toy.publish_table(home, wrong)}, gate=gate)
    moved = tmp_path / "moved"
    shutil.move(home, moved)
    assert "wolf" in nouns(moved, "rejected") and "dog" in nouns(moved)
    (moved / "catalog-rejected.duckdb").unlink()
    assert "wolf" in nouns(moved, "rejected")


def test_a_gate_that_fails_leaves_everything(toy, rows, tmp_path):
    good, wrong = rows
    build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, good)}, gate=gate)
    before = (tmp_path / "catalog.json").read_bytes()

    def torn(con):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        build_catalog(tmp_path, {"table": toy.publish_table(tmp_path, wrong)}, gate=torn)
    assert not (tmp_path / "catalog-rejected.duckdb").exists()
    assert (tmp_path / "catalog.json").read_bytes() == before
    assert "dog" in nouns(tmp_path)


def test_every_check_says_whether_it_blocks(tmp_path):
    for file in sql_files("tests"):
        assert file.listed("Severity") in (["error"], ["warn"]), file.name
    texts = {"": "error", "-- Severity: warn.\n": "warn", "-- Severity: error.\n": "error"}
    for text, severity in texts.items():
        assert SqlFile(name="x", path=tmp_path / "x.sql", text=text).severity == severity
    with pytest.raises(OvsegError, match="Severity is error or warn, not 'fatal'"):
        _ = SqlFile(name="x", path=tmp_path / "x.sql", text="-- Severity: fatal.\n").severity
