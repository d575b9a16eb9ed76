"""`ovseg sql`: names, free SQL, files, and what is printed."""

import io

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.query import (
    failed_checks,
    named_query,
    queries,
    relations,
    run_query,
    write_result,
)
from ovseg.cli.sql import sql_command
from ovseg.cli.tables import cell, print_queries, print_table
from ovseg.errors import OvsegError
from ovseg.files.sql_files import SqlFile, sql_files, sql_folder


@pytest.fixture
def con(finished):
    with open_catalog(finished.root) as con:
        yield con


def printed(table, **more):
    console = Console(file=io.StringIO(), width=200)
    print_table(table, console=console, **more)
    return console.file.getvalue()


def test_a_name_is_a_query_or_a_relation(con):
    assert run_query(con, named_query(con, "long_tail")).num_rows > 0
    shown = run_query(con, named_query(con, "noun_frequency"))
    assert shown.num_rows == run_query(con, "from noun_frequency").num_rows
    # The query of that name, which is ordered, goes before the view it reads.
    assert "order by" in named_query(con, "leaderboard")


def test_an_unknown_name_is_answered_with_the_nearest(con):
    with pytest.raises(OvsegError, match="did you mean long_tail"):
        named_query(con, "longtail")
    with pytest.raises(OvsegError, match="`ovseg sql` lists them"):
        named_query(con, "qqqqq")


def test_limit_takes_the_first_rows_in_order(con):
    sql = "select noun from noun_frequency order by noun"
    whole = run_query(con, sql)["noun"].to_pylist()
    assert run_query(con, sql + "; -- to the end", limit=3)["noun"].to_pylist() == whole[:3]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "Parser Error: syntax error"),
        ("select nope from pairs", "Binder Error.*nope"),
        ("select error('boom')", "boom"),
        ("drop view pairs", "read-only"),
        ("create table t as select 1", "read-only"),
        ("", "returns no rows"),
        ("-- nothing", "returns no rows"),
        ("select 1; select 2", "several statements"),
        ("attach 'other.duckdb'", "read-only"),
        ("explain create table t as select 1", "read-only"),
    ],
)
def test_wrong_or_writing_sql_is_one_line(con, sql, message):
    with pytest.raises(OvsegError, match=message) as caught:
        run_query(con, sql)
    assert "\n" not in str(caught.value)
    assert run_query(con, "select 1 as one").num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 1) to '{}'",
        "with one as (select 1) copy (from one) to '{}'",
        "with one as (copy (select 1) to '{}') from one",
        "explain analyze with one as (copy (select 1) to '{}') from one",
        "explain analyze copy (select 1) to '{}'",
        "EXPLAIN\nANALYZE\ncopy (select 1) to '{}'",
        "explain (analyze) copy (select 1) to '{}'",
        "select 1; copy (select 1) to '{}'",
        "copy (pivot pairs on noun using count(*)) to '{}'",
        "attach '{}'",
        "export database '{}'",
    ],
)
def test_no_sql_writes_a_file(con, tmp_path, sql):
    with pytest.raises(OvsegError):
        run_query(con, sql.format(tmp_path / "written.csv"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "sql",
    [
        "from pairs",
        "with p as (select noun from pairs) select * from p",
        "describe pairs",
        "show tables",
        "summarize pairs",
        "values (1)",
        "explain select 1",
        "-- why\nEXPLAIN ANALYZE select 1",
    ],
)
def test_what_only_reads_runs(con, sql):
    assert run_query(con, sql).num_rows > 0


def test_a_query_may_join_a_file_of_one_s_own(con, tmp_path):
    (tmp_path / "labels.csv").write_text("noun,label\ndog,animal\n")
    sql = f"select distinct label from pairs join '{tmp_path}/labels.csv' using (noun)"
    assert run_query(con, sql).to_pylist() == [{"label": "animal"}]


def test_command_prints_and_says_that_there_is_more(finished, capsys):
    sql_command(None, command="select noun from pairs order by noun", root=finished.root, limit=2)
    lines = capsys.readouterr().out.split("\n")
    assert [line.strip() for line in lines[:3]] == ["noun", "cat", "dog"]
    assert lines[3].startswith("the first 2 rows; --limit shows more")
    sql_command("top_nouns", root=finished.root)
    assert "9 rows" in capsys.readouterr().out


def test_without_a_name_everything_is_listed(tmp_path, capsys):
    sql_command(None, root=tmp_path / "no catalogue needed")
    out = " ".join(capsys.readouterr().out.split())
    for name in [*(query.name for query in queries()), *relations()]:
        assert name in out


def test_out_writes_csv_with_lists_and_bytes_as_text(finished, tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    sql = "select pair_id, noun, bbox_xyxy, mask_counts from kept_pairs order by noun, image_id"
    sql_command(None, command=sql, out=path, root=finished.root, limit=2)
    found = pyarrow.csv.read_csv(path)
    with open_catalog(finished.root) as con:
        expected = run_query(con, sql)
    assert found.num_rows == expected.num_rows > 2  # the limit is for the screen
    assert found["noun"].to_pylist() == expected["noun"].to_pylist()
    assert found["bbox_xyxy"][0].as_py() == str(expected["bbox_xyxy"][0].as_py())
    assert found["mask_counts"][0].as_py() == "f1o0"
    assert capsys.readouterr().out.strip() == f"{found.num_rows} rows written to {path}"
    assert list(tmp_path.iterdir()) == [path]


def test_out_writes_parquet_as_queried(finished, tmp_path):
    path = tmp_path / "kept.parquet"
    sql_command("kept_pairs", out=path, root=finished.root)
    with open_catalog(finished.root) as con:
        expected = run_query(con, "from kept_pairs")
    assert pq.read_table(path).equals(expected)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("a.txt", "must be .csv or .parquet"),
        ("no/a.csv", "does not exist"),
        ("folder.csv", "is a folder"),
        ("folder.parquet", "is a folder"),
        ("file/a.csv", "does not exist"),
    ],
)
def test_out_names_what_is_wrong_with_the_file(tmp_path, out, message):
    for name in ("folder.csv", "folder.parquet"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OvsegError, match=message):  # before the catalogue is looked for
        sql_command("top_nouns", out=tmp_path / out, root=tmp_path / "no catalogue")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    import resource

    path = tmp_path / f"a.{suffix}"
    path.write_text("old")
    table = pa.table({"a": [str(i * i) for i in range(300_000)]})
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OvsegError, match=rf"a\.{suffix}:? cannot be written") as caught:
            write_result(table, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_parquet_cannot_hold_is_named(con, tmp_path):
    table = run_query(con, "select interval 1 month as age")
    with pytest.raises(OvsegError, match=r"cast the column to varchar, or write \.csv"):
        write_result(table, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [None, 300_000])
def test_a_query_that_fails_on_the_way_is_one_line(con, limit):
    sql = "select if(i = 200_000, error('boom'), i) from range(400_000) t(i)"
    with pytest.raises(OvsegError, match="boom") as caught:
        run_query(con, sql, limit=limit)
    assert "\n" not in str(caught.value)
    assert run_query(con, sql, limit=3).num_rows == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("date 'infinity'", "infinity"),
        ("date '-infinity'", "-infinity"),
        ("date '5877642-06-25 (BC)'", "5877642-06-25 (BC)"),
        ("date '2020-02-29'", "2020-02-29"),
        ("timestamp '294246-01-01'", "294246-01-01 00:00:00"),
        ("timestamp_ns '2020-01-01 00:00:00.123456789'", "2020-01-01 00:00:00.123456789"),
        ("timetz '10:00:00+02'", "10:00:00+02"),
        ("time '24:00:00'", "24:00:00"),
        ("interval '1 year 2 days'", "1 year 2 days"),
        ("interval '99999999 years'", "99999999 years"),
        ("'101'::bit", "101"),
        ("123456789012345678901234567890123456789012::bignum", "12345678901234567890123456789012"),
        ("340282366920938463463374607431768211455::uhugeint", "340282366920938463463374607431"),
        ("170141183460469231731687303715884105727::hugeint", "17014118346046923173168730371588"),
        ("'a'::enum('a', 'b')", "a"),
        ("union_value(k := date 'infinity')", "infinity"),
        ("map {'a': date 'infinity'}", "{a=infinity}"),
        ("[date 'infinity']", "[infinity]"),
        ("{'a': [interval 1 day]}", "{a: [1 day]}"),
        ("row(1, 2)", "(1, 2)"),
        ("1.50::decimal(38, 2)", "1.50"),
        ("null", "·"),
    ],
)
def test_any_type_is_printed_and_written(finished, tmp_path, capsys, monkeypatch, value, text):
    monkeypatch.setenv("COLUMNS", "200")
    sql_command(None, command=f"select {value} as a", root=finished.root)
    assert text in capsys.readouterr().out
    sql_command(None, command=f"select {value} as a", root=finished.root, out=tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().startswith("a\n")


def test_every_type_of_the_engine_is_printed_and_written(finished, tmp_path):
    sql_command(None, command="from test_all_types()", root=finished.root)
    path = tmp_path / "all.csv"
    sql_command(None, command="from test_all_types()", root=finished.root, out=path)
    assert len(path.read_text().splitlines()) >= 4


def test_a_name_and_sql_are_not_both_run(finished):
    with pytest.raises(OvsegError, match="not both"):
        sql_command("top_nouns", command="select 1", root=finished.root)


def test_the_checks_find_nothing_in_a_good_run(con):
    assert {name: rows.to_pylist() for name, rows in failed_checks(con).items()} == {}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "·"),
        (True, "yes"),
        (0.123456, "0.1235"),
        (1234567.0, "1.235e+06"),
        (float("nan"), "nan"),
        (b"\x00\x01", "2 bytes"),
        ([1, 2], "[1, 2]"),
        (list(range(9)), "[0, 1, 2, 3, 4, … 4 more]"),
        ({"a": 0.5, "b": None}, "{a: 0.5, b: ·}"),
        ("two\nlines", "two lines"),
    ],
)
def test_cells_are_short(value, shown):
    assert cell(value) == shown


def test_text_that_looks_like_markup_is_printed_as_it_is():
    out = printed(pa.table({"[bold]": ["[red]dog[/red]"]}))
    assert "[bold]" in out
    assert "[red]dog[/red]" in out


def test_columns_of_one_name_are_all_printed():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert printed(table).split() == ["n", "n", "1", "2", "1", "rows"]


def test_titles_are_the_first_sentence(tmp_path):
    file = SqlFile(
        name="x", path=tmp_path, text="-- Of many\n-- lines. Then\n-- Grain: y\nselect 1"
    )
    assert file.title == "Of many lines"
    console = Console(file=io.StringIO(), width=80)
    print_queries([file], {"pairs": "one row"}, console=console)
    assert "Of many lines" in console.file.getvalue()


def test_views_lose_their_ordering_prefix():
    names = [view.name for view in sql_files("views")]
    assert "kept_pairs" in names
    assert not any(name[0].isdigit() for name in names)


def test_without_a_checkout_it_says_how_to_install(monkeypatch, tmp_path):
    import ovseg

    monkeypatch.setattr(ovseg, "__file__", str(tmp_path / "ovseg" / "__init__.py"))
    with pytest.raises(OvsegError, match="pip install --editable"):
        sql_folder()
