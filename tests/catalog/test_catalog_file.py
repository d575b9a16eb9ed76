"""The catalogue's file: swapped in whole, read and built by several processes at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ovseg.catalog.catalog import build_catalog, open_catalog
from ovseg.errors import OvsegError


def test_a_catalogue_that_another_program_writes_to_is_named(tmp_path):
    build_catalog(tmp_path, {})
    code = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "catalog.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OvsegError, match="another program has it open to write: close it"):
            open_catalog(tmp_path)
    finally:
        other.communicate("\n")
    open_catalog(tmp_path).close()


def test_two_builds_leave_the_same_pointers_and_nothing_else(toy, tmp_path):
    table = toy.publish_table(tmp_path)
    build_catalog(tmp_path, {"table": table})
    first = (tmp_path / "catalog.json").read_bytes()
    build_catalog(tmp_path, {"table": table})
    assert (tmp_path / "catalog.json").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "catalog.duckdb",
        "catalog.json",
        "pairs",
        "tables",
    ]


def test_a_view_that_fails_leaves_the_old_catalogue(toy, tmp_path, monkeypatch):
    table = toy.publish_table(tmp_path)
    build_catalog(tmp_path, {"table": table})
    before = (tmp_path / "catalog.duckdb").read_bytes()
    from ovseg.catalog import database
    from ovseg.files.sql_files import SqlFile

    broken = SqlFile(name="odd", path=Path("sql/views/99_odd.sql"), text="select nope from pairs")
    monkeypatch.setattr(database, "sql_files", lambda kind: [broken])
    with pytest.raises(OvsegError, match=r"99_odd\.sql fails: .*nope"):
        build_catalog(tmp_path, {})
    assert (tmp_path / "catalog.duckdb").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp-*"))


def test_torn_pointers_are_named(tmp_path):
    (tmp_path / "catalog.json").write_text('{"current": [{"stage"')
    with pytest.raises(OvsegError, match=r"catalog\.json is not valid JSON"):
        build_catalog(tmp_path, {})


def test_a_missing_or_foreign_catalogue_is_named(tmp_path):
    with pytest.raises(OvsegError, match="run `ovseg run` first"):
        open_catalog(tmp_path)
    (tmp_path / "catalog.duckdb").write_text("no database")
    with pytest.raises(OvsegError, match="cannot be opened"):
        open_catalog(tmp_path)


READER = """
import json, sys, time
from collections import Counter
from pathlib import Path
from ovseg.catalog.catalog import open_catalog

root, stop, seen = Path(sys.argv[1]), Path(sys.argv[2]), Counter()
while not stop.exists():
    with open_catalog(root) as con:
        found = con.sql(
            "select (select count(*) from pairs), (select sum(rows) from published),"
            " (select count(*) from duckdb_views() where view_name = 'leaderboard')"
        ).fetchall()[0]
        time.sleep(0.001)
        again = con.sql("select count(*) from pairs").fetchall()[0][0]
    seen[(*map(int, found), again)] += 1
    if sum(seen.values()) == 1:
        print("reading", flush=True)
print(json.dumps(sorted(seen)))
"""


def test_a_reader_during_publishing_sees_one_state_or_the_other(toy, tmp_path):
    many, few = toy.publish_table(tmp_path), toy.publish_table(tmp_path, toy.pair_rows()[:4])
    build_catalog(tmp_path, {"table": many})
    stop = tmp_path / "stop"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path), str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert reader.stdout.readline() == "reading\n"
    for index in range(9):
        build_catalog(tmp_path, {"table": few if index % 2 == 0 else many})
    stop.touch()
    out, err = reader.communicate(timeout=120)
    assert reader.returncode == 0, err
    states = {(n, n, 1, n) for n in (many.rows, few.rows)}
    assert {tuple(state) for state in json.loads(out)} == states  # both met, and no third


def test_two_builders_lose_nothing(toy, tmp_path):
    tables = [toy.publish_table(tmp_path, dataset=f"set {i}") for i in range(3)]
    code = (
        "import sys; from pathlib import Path;"
        "from ovseg.catalog.catalog import build_catalog;"
        " from ovseg.stages.manifest import Manifest;"
        "build_catalog(Path(sys.argv[1]), {'table': Manifest.read(Path(sys.argv[2]))})"
    )
    builders = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(table.folder)])
        for table in tables
    ]
    assert [builder.wait(timeout=120) for builder in builders] == [0] * 3
    with open_catalog(tmp_path) as con:
        assert con.sql("select count(distinct dataset) from pairs").fetchall() == [(3,)]
