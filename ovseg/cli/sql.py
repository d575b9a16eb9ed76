"""`ovseg sql`: a named query, the checks, or a given select, shown or written."""

from __future__ import annotations

from pathlib import Path

from ovseg.catalog.catalog import open_catalog
from ovseg.catalog.pointers import CURRENT, State
from ovseg.catalog.query import check_out, named_query, queries, relations, run_query, write_result
from ovseg.errors import OvsegError
from ovseg.files.escaping import say

SCREEN_ROWS = 40
"""Default number of rows to print."""


def sql_command(
    name: str | None,
    *,
    command: str | None = None,
    out: Path | None = None,
    root: Path,
    state: State = CURRENT,
    limit: int | None = None,
) -> None:
    """Run `ovseg sql`: list the queries, print a result, or write it to a file.

    Args:
        name: of a query or relation; with neither it nor `command` the queries are listed.
        command: free SQL.
        out: file for the whole result.
        root: folder of the results, with the catalog.
        state: the current tables, or those that failed a check that blocks.
        limit: maximum number of rows to print; defaults to `SCREEN_ROWS`.

    Raises:
        OvsegError: if the SQL, the name, the file or the catalog is invalid.
    """
    from ovseg.cli.tables import print_queries, print_table

    if name is not None and command is not None:
        raise OvsegError("give the name of a query or SQL with -c, not both")
    if name is None and command is None:
        print_queries(queries(), relations())
        return
    if out is not None:
        check_out(out)
    with open_catalog(root, state) as con:
        sql = command if command is not None else named_query(con, name or "")
        if out is not None:
            table = run_query(con, sql, shown=out.suffix == ".csv")
            write_result(table, out)
            say(f"{table.num_rows} rows written to {out}")
            return
        shown = SCREEN_ROWS if limit is None else limit
        # one more row tells whether there are more
        table = run_query(con, sql, limit=shown + 1, shown=True)
    print_table(table.slice(0, shown), more=table.num_rows > shown)
