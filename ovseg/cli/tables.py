"""Display of tables in `ovseg sql`: floats rounded, long lists cut, bytes counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovseg.files.escaping import terminal_text
from ovseg.files.sql_files import SqlFile
from ovseg.files.terminal import Terminal

LIST_ITEMS = 5
"""Maximum number of list members shown."""


def cell(value: object) -> str:
    """Format a value as one short line.

    Floats have four significant digits; bytes are counted; lists are cut after `LIST_ITEMS`
    members; a struct shows its fields; null is a middle dot.
    """
    match value:
        case None:
            return "·"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case bytes():
            return f"{len(value)} bytes"
        case list():
            items = [cell(item) for item in value[:LIST_ITEMS]]
            rest = [f"… {len(value) - LIST_ITEMS} more"] if len(value) > LIST_ITEMS else []
            return "[" + ", ".join(items + rest) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {cell(item)}" for key, item in value.items()) + "}"
        case _:
            return " ".join(str(value).split())


def _text(text: str) -> Text:
    """Return a name or value as plain text, without markup and of its displayed width."""
    return Text(terminal_text(text))


def print_settings(settings: Iterable[tuple[str, str, str]]) -> None:
    """Print names, values and descriptions of settings."""
    grid = Table(box=None, pad_edge=False)
    for heading in ("setting", "value", "what it is"):
        grid.add_column(heading, overflow="fold", no_wrap=heading == "setting")
    for name, value, description in settings:
        grid.add_row(name, value if len(value) < 60 else f"{value[:57]}...", description)
    Terminal().print(grid, highlight=False)


def print_table(table: pa.Table, *, more: bool = False, console: Console | None = None) -> None:
    """Print a result.

    Args:
        table: the rows to show.
        more: whether there are more rows.
        console: defaults to standard output.
    """
    console = console or Terminal()
    grid = Table(header_style="bold", box=None, pad_edge=False)
    for field in table.schema:
        number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        grid.add_column(_text(field.name), justify="right" if number else "left", overflow="fold")
    columns = [column.to_pylist() for column in table.columns]
    for row in zip(*columns, strict=True):
        grid.add_row(*(_text(cell(value)) for value in row))
    console.print(grid)
    if more:
        console.print(f"the first {table.num_rows} rows; --limit shows more, --out writes all")
    else:
        console.print(f"{table.num_rows} rows")


def print_queries(
    queries: Sequence[SqlFile], relations: Mapping[str, str], *, console: Console | None = None
) -> None:
    """Print the queries and relations, one per line."""
    console = console or Terminal()
    for title, names in (
        ("queries: ovseg sql NAME", {query.name: query.title for query in queries}),
        ('relations: ovseg sql NAME, or in SQL: ovseg sql -c "select ..."', relations),
    ):
        grid = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column()
        for name, what in names.items():
            grid.add_row(_text(name), _text(what))
        console.print(grid)
        console.print()
