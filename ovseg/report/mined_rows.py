"""The data of a report, read from a run's manifests through the views that analysts query.

    with open_tables(inputs) as con:
        funnel(con)

The views are built over only the given manifests, in a temporary folder: a report shows the run it
was made from, regardless of what the root's catalog points at now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ovseg.catalog.catalog import DATABASE, build_views
from ovseg.catalog.catalog_file import connect
from ovseg.files.sql_files import sql_file
from ovseg.stages.manifest import Manifest

Row = dict[str, Any]
Values = NDArray[np.float64]


@contextmanager
def open_tables(inputs: Mapping[str, Manifest]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalog's relations over these manifests.

    Args:
        inputs: by role: `images`, `nouns`, `proposals`, `table`, `truth`, `checkpoint/<arm>`,
            `curve/<benchmark>/<arm>`, and `benchmark/<name>/<arm>` with `scores/<name>/<arm>`.
    """
    with tempfile.TemporaryDirectory(prefix="ovseg-report-") as folder:
        con = connect(build_views(Path(folder) / DATABASE, inputs))
        try:
            con.execute("set threads = 1")  # float sums depend on the order of summation
            yield con
        finally:
            con.close()


def rows(
    con: duckdb.DuckDBPyConnection, name: str, values: Sequence[object] | None = None
) -> list[Row]:
    """Return the rows of a select of `sql/report`, each as a dict.

    Args:
        con: the catalog, from `open_tables`.
        name: of the select.
        values: its parameters, $1 first.
    """
    result = con.execute(sql_file("report", name).text, values or [])
    names = [column[0] for column in result.description]
    return [dict(zip(names, row)) for row in result.fetchall()]


def row(con: duckdb.DuckDBPyConnection, name: str, values: Sequence[object] | None = None) -> Row:
    """Return the one row of an aggregate; see `rows`."""
    (result,) = rows(con, name, values)
    return result


# --------------------------------------------------------------------------------------
# Mining


def funnel(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return the outcomes of each step: step, what, outcome, n, share; kept first."""
    return rows(con, "funnel")


def counts(con: duckdb.DuckDBPyConnection) -> Row:
    """Return the counts from captions to correct pairs; `judged` is 0 without ground truth."""
    return row(con, "counts")


def nouns(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return every noun with kept pairs, most frequent first: noun, pairs, judged, right_pairs."""
    return rows(con, "nouns")


def sample_pairs(con: duckdb.DuckDBPyConnection, names: Sequence[str], each: int) -> list[Row]:
    """Return a few kept pairs of each noun, with mask, caption and truth.

    Images are taken in the order of a hash of their ID: nothing is hand-picked, and nouns share
    images, so that few need to be embedded.
    """
    return rows(con, "sample_pairs", [list(names), each])


MEASURES = {
    "clip_similarity": "CLIP similarity (cosine)",
    "clip_margin": "CLIP margin (cosine, best - second proposal)",
    "proposal_score": "proposal score (0 to 1)",
    "area_fraction": "mask area (% of the image)",
}
"""The measures of a pair, with their axis labels."""


def pair_values(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Values]]:
    """Return sorted values by measure and group (`kept`, `dropped`, `right`, `wrong`).

    Right and wrong are the kept pairs that were compared with ground truth; groups may be empty.
    """
    table = con.sql(sql_file("report", "pair_values").text).to_arrow_table()
    groups = {
        "kept": table["kept"],
        "dropped": pc.invert(table["kept"]),
        "right": table["correct"],
        "wrong": pc.invert(table["correct"]),
    }
    result: dict[str, dict[str, Values]] = {measure: {} for measure in MEASURES}
    for group, belongs in groups.items():
        members = table.filter(belongs)
        for measure in MEASURES:
            values = members[measure].cast(pa.float64()).to_numpy()
            result[measure][group] = np.sort(values[np.isfinite(values)])
    return result


def noun_ranks(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return nouns by kept pairs, then mentions: noun, mentions, kept_pairs; no stop nouns."""
    return rows(con, "noun_ranks")
