"""Tables as CSV cells that spreadsheets do not take for formulas.

    csv_text(table)

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@`, and captions, class names and file
names are other people's text. Such a cell gets a leading apostrophe, which marks it as text;
numbers stay numbers. Parquet files hold every value unchanged.
"""

from __future__ import annotations

import io
import re

import duckdb
import pyarrow as pa
import pyarrow.csv as pc

from ovseg.mining.pairs.sql import identifier, literal

# Spreadsheets treat full-width signs like ASCII ones.
FORMULA = r"[=+\-@\t\r\n＝＋－＠]"
NUMBER = r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?"


def csv_text(table: pa.Table) -> str:
    """Return a table as CSV, with all text in quotation marks."""
    stream = io.BytesIO()
    pc.write_csv(cells(table), stream)
    return stream.getvalue().decode()


def cells(table: pa.Table) -> pa.Table:
    """Keep numbers and booleans, and turn everything else into text that is not a formula.

    Lists, structs and bytes become DuckDB's text for them; null stays null. Column names are text
    too.
    """
    with duckdb.connect() as con:
        found = con.from_arrow(table)
        columns = (
            f"{_cell(place, field.type)} as {identifier(_text(field.name))}"
            for place, field in enumerate(table.schema, 1)
        )
        return found.project(", ".join(columns)).to_arrow_table()


def _cell(place: int, kind: pa.DataType) -> str:
    if _is_number(kind):
        return f"#{place}"
    text = f"cast(#{place} as varchar)"
    return (
        f"case when regexp_matches({text}, {literal('^' + FORMULA)})"
        f" and not regexp_full_match({text}, {literal(NUMBER)}) then '''' || {text} else {text} end"
    )


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(test(kind) for test in tests)


def _text(name: str) -> str:
    formula = re.match(FORMULA, name) and not re.fullmatch(NUMBER, name)
    return f"'{name}" if formula else name
