"""`ovseg sql`: names, free SQL, files, and what is printed."""

import io

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ovseg.analysis.catalog import open_catalog
from ovseg.analysis.console import cell, print_queries, print_table
from ovseg.analysis.query import (
    failed_checks,
    named_query,
    queries,
    relations,
    run_query,
    sql_command,
)
from ovseg.analysis.sql_files import SqlFile, sql_files, sql_folder
from ovseg.errors import OvsegError


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
    ("out", "message"), [("a.txt", "must be .csv or .parquet"), ("no/a.csv", "does not exist")]
)
def test_out_names_what_is_wrong_with_the_file(finished, tmp_path, out, message):
    with pytest.raises(OvsegError, match=message):
        sql_command("top_nouns", out=tmp_path / out, root=finished.root)


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
