"""What a report says, read from a run's manifests through the same views analysts query.

    with open_tables(inputs) as con:
        funnel(con)

The views are built over the given manifests alone, in a folder that is gone afterwards: a report
shows the run it was made from, whatever the catalogue of the root points at by now.
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
    """The catalogue's relations over these manifests.

    Args:
        inputs: by role: `images`, `nouns`, `proposals`, `table`, `truth`, `checkpoint/<arm>`,
            `curve/<benchmark>/<arm>`, and `benchmark/<name>/<arm>` with `scores/<name>/<arm>`.
    """
    with tempfile.TemporaryDirectory(prefix="ovseg-report-") as folder:
        con = connect(build_views(Path(folder) / DATABASE, inputs))
        try:
            con.execute("set threads = 1")  # sums of floats depend on the order they are taken in
            yield con
        finally:
            con.close()


def rows(
    con: duckdb.DuckDBPyConnection, name: str, values: Sequence[object] | None = None
) -> list[Row]:
    """The rows of a select of `sql/report`, each as a dict.

    Args:
        con: the catalogue, as `open_tables` opens it.
        name: of the select.
        values: of its parameters, $1 first.
    """
    found = con.execute(sql_file("report", name).text, values or [])
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]


def row(con: duckdb.DuckDBPyConnection, name: str, values: Sequence[object] | None = None) -> Row:
    """The one row of an aggregate; see `rows`."""
    (found,) = rows(con, name, values)
    return found


# --------------------------------------------------------------------------------------
# Mining


def funnel(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Each step and what became of its things: step, what, outcome, n, share; kept first."""
    return rows(con, "funnel")


def counts(con: duckdb.DuckDBPyConnection) -> Row:
    """How much there is of everything from captions to right pairs; `judged` 0 without truth."""
    return row(con, "counts")


def nouns(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Every noun with kept pairs, most frequent first: noun, pairs, judged, right_pairs."""
    return rows(con, "nouns")


def sample_pairs(con: duckdb.DuckDBPyConnection, names: Sequence[str], each: int) -> list[Row]:
    """A few kept pairs of each noun, with mask, caption and truth.

    Images are taken in the order of a hash of their id: no choice of ours, and the nouns share
    images, so that few of them have to be embedded.
    """
    return rows(con, "sample_pairs", [list(names), each])


MEASURES = {
    "clip_similarity": "CLIP similarity (cosine)",
    "clip_margin": "CLIP margin (cosine, best - second proposal)",
    "proposal_score": "proposal score (0 to 1)",
    "area_fraction": "mask area (% of the image)",
}
"""What a pair is measured by, and its axis label."""


def pair_values(con: duckdb.DuckDBPyConnection) -> dict[str, dict[str, Values]]:
    """Every mined pair's measures: by measure, by group (`kept`, `dropped`, `right`, `wrong`).

    Right and wrong are kept pairs that were held against ground truth; groups may be empty.
    """
    table = con.sql(sql_file("report", "pair_values").text).to_arrow_table()
    groups = {
        "kept": table["kept"],
        "dropped": pc.invert(table["kept"]),
        "right": table["correct"],
        "wrong": pc.invert(table["correct"]),
    }
    found: dict[str, dict[str, Values]] = {measure: {} for measure in MEASURES}
    for group, belongs in groups.items():
        members = table.filter(belongs)
        for measure in MEASURES:
            values = members[measure].cast(pa.float64()).to_numpy()
            found[measure][group] = np.sort(values[np.isfinite(values)])
    return found


def noun_ranks(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Nouns by kept pairs, then mentions: noun, mentions, kept_pairs; stop nouns left out."""
    return rows(con, "noun_ranks")
