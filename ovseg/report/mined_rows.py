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
from numpy.typing import NDArray

from ovseg.catalog.catalog import DATABASE, build_views
from ovseg.catalog.catalog_file import connect
from ovseg.stages.manifest import Manifest

Row = dict[str, Any]
Values = NDArray[np.float64]

ROLES = ("images", "nouns", "proposals", "table", "truth")


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
    con: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] | None = None
) -> list[Row]:
    """The rows of a select, each as a dict."""
    found = con.execute(sql, values or [])
    names = [column[0] for column in found.description]
    return [dict(zip(names, row)) for row in found.fetchall()]


def row(con: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] | None = None) -> Row:
    """The one row of an aggregate."""
    (found,) = rows(con, sql, values)
    return found


# --------------------------------------------------------------------------------------
# Mining


def funnel(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Each step and what became of its things: step, what, outcome, n, share; kept first."""
    return rows(
        con,
        "select step, what, outcome, sum(n)::bigint as n,"
        " sum(n) / sum(sum(n)) over (partition by step) as share"
        " from gate_funnel group by step, what, outcome"
        " order by step, outcome <> 'kept', n desc, outcome",
    )


def counts(con: duckdb.DuckDBPyConnection) -> Row:
    """How much there is of everything from captions to right pairs; `judged` 0 without truth."""
    return row(
        con,
        """
        select
            (select count(*) from images) as images,
            (select coalesce(sum(captions), 0)::bigint from image_coverage) as captions,
            (select count(*) from nouns where noun is not null) as mentions,
            (select count(distinct noun) from nouns where kept) as nouns,
            (select count(*) from proposals where kept) as proposals,
            (select count(*) from mined_pairs) as pairs,
            (select count(*) from mined_pairs where kept) as kept,
            (select count(distinct noun) from mined_pairs where kept) as kept_nouns,
            (select count(*) from pair_truth) as judged,
            (select count(*) from pair_truth where correct) as right_pairs,
            (select count(noun_category) from pair_truth) as named
        """,
    )


def nouns(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Every noun with kept pairs, most frequent first: noun, pairs, judged, right_pairs."""
    return rows(
        con,
        """
        select
            pairs.noun,
            count(*) as pairs,
            count(truth.correct) as judged,
            count(*) filter (truth.correct) as right_pairs,
            avg(pairs.clip_similarity) as similarity
        from mined_pairs as pairs
        left join pair_truth as truth using (pair_id)
        where pairs.kept
        group by pairs.noun
        order by pairs desc, pairs.noun
        """,
    )


def sample_pairs(con: duckdb.DuckDBPyConnection, names: Sequence[str], each: int) -> list[Row]:
    """A few kept pairs of each noun, with mask, caption and truth.

    Images are taken in the order of a hash of their id: no choice of ours, and the nouns share
    images, so that few of them have to be embedded.
    """
    return rows(
        con,
        """
        with chosen as (
            select mined_pairs.*
            from mined_pairs
            where kept and list_contains($1, noun)
            qualify row_number() over (
                partition by noun order by md5(dataset || image_id), image_id
            ) <= $2
        )
        select
            chosen.noun, chosen.pair_id, chosen.image_id, pairs.image_path,
            pairs.width, pairs.height, pairs.mask_size, pairs.mask_counts,
            chosen.clip_similarity, chosen.clip_margin, chosen.proposal_score,
            chosen.area_fraction, chosen.mentions, images.captions,
            truth.correct, truth.gt_category, truth.noun_category, truth.gt_share
        from chosen
        inner join pairs on chosen.pair_id = pairs.pair_id and chosen.round = pairs.round
        left join images on chosen.dataset = images.dataset and chosen.image_id = images.image_id
        left join pair_truth as truth on chosen.pair_id = truth.pair_id
        order by chosen.noun, md5(chosen.dataset || chosen.image_id), chosen.image_id
        """,
        [list(names), each],
    )


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
    groups = {
        "kept": "kept",
        "dropped": "not kept",
        "right": "truth.correct",
        "wrong": "not truth.correct",
    }
    found: dict[str, dict[str, Values]] = {measure: {} for measure in MEASURES}
    for group, condition in groups.items():
        table = con.execute(
            f"select {', '.join(f'pairs.{name}' for name in MEASURES)} from mined_pairs as pairs"
            f" left join pair_truth as truth using (pair_id) where {condition}"
        ).fetchnumpy()
        for measure in MEASURES:
            values = np.ma.filled(table[measure].astype(np.float64), np.nan)
            found[measure][group] = np.sort(values[np.isfinite(values)])
    return found


def noun_ranks(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Nouns by kept pairs, then mentions: noun, mentions, kept_pairs; stop nouns left out."""
    return rows(
        con,
        "select noun, sum(mentions)::bigint as mentions, sum(kept_pairs)::bigint as kept_pairs"
        " from noun_frequency where kept_mentions > 0 or kept_pairs > 0 group by noun"
        " order by kept_pairs desc, mentions desc, noun",
    )
