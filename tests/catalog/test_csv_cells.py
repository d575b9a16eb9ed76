"""Cells of CSV files: no text of other people is a formula, and numbers stay numbers."""

import csv
import io

import pyarrow as pa
import pytest

from ovseg.catalog.catalog import build_catalog
from ovseg.catalog.csv_cells import cells, csv_text
from ovseg.catalog.query import write_result
from ovseg.cli.sql import sql_command


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1", "'＝1"),
        ("-", "'-"),
        ("--1", "'--1"),
        ("-0.5", "-0.5"),
        ("+1.5e-3", "+1.5e-3"),
        ("-1-1", "'-1-1"),
        ("-1\n=2", "'-1\n=2"),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("dog", "dog"),
        ("", ""),
    ],
)
def test_text_that_is_a_formula_gets_an_apostrophe(text, cell):
    assert cells(pa.table({"text": [text]}))["text"].to_pylist() == [cell]


def test_numbers_and_truth_values_stay_what_they_are():
    table = pa.table({"a": [-0.5, None], "b": [-1, 2], "c": [True, None]})
    assert cells(table).equals(table)


def test_lists_and_bytes_are_text_and_names_of_columns_too():
    table = pa.table({"=a": [["=1"]], "b": [b"=1"], "-1": [{"x": "=1"}]})
    found = cells(table)
    assert found.column_names == ["'=a", "b", "-1"]
    assert found.to_pylist() == [{"'=a": "['=1']", "b": "'=1", "-1": "{'x': '=1'}"}]


@pytest.mark.parametrize("written", ["text", "file", "command"])
def test_every_csv_that_is_written_is_escaped(tmp_path, written, capsys):
    table = pa.table({"noun": ["=1+1", "dog", None], "share": [-0.5, 1.0, None]})
    path = tmp_path / "x.csv"
    if written == "text":
        text = csv_text(table)
    elif written == "file":
        write_result(table, path)
        text = path.read_text()
    else:
        build_catalog(tmp_path, {})
        values = "(values ('=1+1', -0.5), ('dog', 1.0), (null, null)) t(noun, share)"
        sql_command(None, command=f"from {values}", root=tmp_path, out=path)
        text = path.read_text()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["noun", "share"]
    assert [row[0] for row in rows[1:]] == ["'=1+1", "dog", ""]
    assert [row[1] and float(row[1]) for row in rows[1:]] == [-0.5, 1.0, ""]
