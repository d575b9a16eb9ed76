"""Compaction: shards of pairs into Parquet files of bounded size that are totally ordered together.

    parts = compact(shards, folder, spill=scratch, threads=2)

The order (noun, image_id) is cut into ranges by the rows alone, and each range becomes one file. A
first pass reads every shard once and scatters its rows over the ranges into scratch files; a second
pass sorts and writes one range at a time in each thread. The bytes of a file depend on its rows
only, whatever the number of threads, and memory on the number of threads, whatever the number of
rows: about `MEMORY` in each.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ovseg.files.parquet_files import ROW_GROUP
from ovseg.mining.pairs.sql import columns, literal, scan
from ovseg.stages.schema import PAIRS

PART_ROWS = 2 * ROW_GROUP
"""A file is closed after the noun with which it reaches this many rows, and has less than twice as
many; a noun with more rows than this is cut by image."""
MEMORY = 1_000
"""Limit of DuckDB in MB for each thread. The rows of a range come on top: 0.4 GB with masks of 300
bytes, sorted and not."""
REPEATED = (
    *("source", "dataset", "noun", "head", "parser", "drop_reason"),
    *("proposal_model", "clip_model", "config_digest"),
)
T = TypeVar("T")


class DuplicateGrainError(Exception):
    """Two rows have the same image and noun."""


class RangeStart(NamedTuple):
    """The first row of a range: rows before it in the order (noun, image_id) are of earlier ones.

    Attributes:
        noun: null comes last.
        image_id: the first image of the range if the noun is cut, else None.
    """

    noun: str | None
    image_id: int | None = None


class NounCount(NamedTuple):
    """How many rows a noun has, which may be null, and how many of them are kept."""

    noun: str | None
    rows: int
    kept: int


class Piece(NamedTuple):
    """Rows of one range in a scratch file."""

    path: Path
    offset: int


def compact(
    shards: Sequence[Path],
    folder: Path,
    *,
    spill: Path,
    threads: int,
    part_rows: int = PART_ROWS,
    counts: Sequence[NounCount] | None = None,
) -> list[Path]:
    """Write `part-00000.parquet`, ... in a folder: all rows of the shards, in order.

    Args:
        shards: Parquet files of `PAIRS`.
        folder: an empty folder.
        spill: a folder for scratch files, about twice the size of the shards; left to the caller.
        threads: how many; the files are the same for any number.
        part_rows: rows of a file, see `PART_ROWS`.
        counts: `noun_counts` of the shards, if they are known.

    Returns:
        The files, in order.

    Raises:
        DuplicateGrainError: two rows have the same image and noun; files may be missing.
        duckdb.Error: a shard cannot be read, or a file cannot be written.
        OSError: a scratch file cannot be written.
    """
    with connection(threads, spill) as con:
        counts = noun_counts(con, shards) if counts is None else counts
        cuts = find_cuts(con, shards, counts, part_rows=part_rows)
    spill.mkdir(exist_ok=True)
    names = [folder / f"part-{number:05d}.parquet" for number in range(len(cuts) + 1)]
    if len(names) == 1:
        with connection() as con:
            rows = con.sql(f"select {columns(PAIRS)} from {scan(shards)}").to_arrow_table()
        write_part(rows, names[0])
        return names
    scattered = _in_threads(
        threads,
        [
            partial(_scatter, path, spill / f"{number}.arrow", cuts)
            for number, path in enumerate(shards)
        ],
    )
    ranges = [[piece for pieces in scattered for piece in pieces[i]] for i in range(len(names))]
    _in_threads(
        threads,
        [partial(_write_range, pieces, name) for name, pieces in zip(names, ranges, strict=True)],
    )
    return names


def noun_counts(con: duckdb.DuckDBPyConnection, shards: Sequence[Path]) -> list[NounCount]:
    """Return the counts of every noun, in order, null last."""
    rows = con.execute(
        f"select noun, count(*), count(*) filter (kept) from {scan(shards)}"
        " group by noun order by noun nulls last"
    ).fetchall()
    return [NounCount(*row) for row in rows]


def find_cuts(
    con: duckdb.DuckDBPyConnection,
    shards: Sequence[Path],
    counts: Sequence[NounCount],
    *,
    part_rows: int = PART_ROWS,
) -> list[RangeStart]:
    """Return where the ranges begin, from the second on; depends on the set of rows only.

    Args:
        con: from `connection`.
        shards: the rows.
        counts: their `noun_counts`.
        part_rows: rows of a range, see `PART_ROWS`.
    """
    cuts: list[RangeStart] = []
    rows = 0
    for noun, count, _ in counts:
        if rows >= part_rows:
            cuts.append(RangeStart(noun))
            rows = 0
        if count > part_rows:
            images = con.execute(
                f"select image_id from {scan(shards)} where noun is not distinct from $1"
                " order by image_id",
                [noun],
            ).fetchnumpy()["image_id"]
            first = part_rows - rows
            cuts += [RangeStart(noun, int(images[i])) for i in range(first, count, part_rows)]
            rows = (count - first) % part_rows or part_rows
        else:
            rows += count
    return cuts


def write_part(rows: pa.Table, path: Path) -> None:
    """Sort rows and write them as one file.

    Raises:
        DuplicateGrainError: two rows have the same image and noun.
    """
    rows = rows.take(pa.array(_order(rows))).combine_chunks()
    # The Arrow schema is stored in the file, so that readers get PAIRS back, fixed-size lists and
    # grain included. With statistics, DuckDB would mark columns without nulls as required, and the
    # schema would depend on the rows.
    arrow = base64.b64encode(PAIRS.serialize().to_pybytes()).decode()
    reader = pa.RecordBatchReader.from_batches(
        rows.schema, rows.to_batches(max_chunksize=ROW_GROUP)
    )
    with connection() as con:
        con.execute("set disabled_optimizers = 'statistics_propagation'")
        con.register("sorted", reader)
        con.execute(
            f"copy (select {columns(PAIRS)} from sorted)"
            f" to {literal(str(path))} (format parquet, compression zstd,"
            f" row_group_size {ROW_GROUP}, kv_metadata {{'ARROW:schema': {literal(arrow)}}})"
        )


def _order(rows: pa.Table) -> NDArray[np.int64]:
    """Return the places of the rows in order, nulls last."""
    nouns = rows["noun"]
    if not pa.types.is_dictionary(nouns.type):
        nouns = nouns.dictionary_encode()
    nouns = nouns.unify_dictionaries().combine_chunks()
    names = nouns.dictionary.to_pylist()
    rank = np.empty(len(names) + 1, np.int64)  # text is ordered by code points: its UTF-8 bytes
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    rank[-1] = len(names)
    noun = rank[pc.fill_null(nouns.indices, len(names)).to_numpy(zero_copy_only=False)]
    image = rows["image_id"].to_numpy()
    order: NDArray[np.int64] = np.lexsort((image, noun))
    same = (np.diff(noun[order]) == 0) & (np.diff(image[order]) == 0)
    if same.any():
        raise DuplicateGrainError
    return order


def connection(threads: int = 1, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open a database in memory for some threads, `MEMORY` for each.

    Args:
        threads: how many.
        spill: folder for what does not fit; None if everything has to.
    """
    return duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": f"{threads * MEMORY}MB",
            "temp_directory": str(spill or ""),
        }
    )


# --------------------------------------------------------------------------------------
# Ranges


def _scatter(shard: Path, scratch: Path, cuts: Sequence[RangeStart]) -> list[list[Piece]]:
    """Write the rows of a shard by range into a scratch file, and return where they are."""
    pieces: list[list[Piece]] = [[] for _ in range(len(cuts) + 1)]
    with connection() as con, pa.OSFile(str(scratch), "wb") as file:
        select = f"select {columns(PAIRS)}, {_range(cuts)} as range from {scan([shard])}"
        for batch in con.sql(select).to_arrow_reader(ROW_GROUP):
            place = batch["range"].to_numpy()
            rows = _listed(batch.drop_columns("range"))
            rows = rows.take(pa.array(np.argsort(place, kind="stable")))
            start = 0
            for number, count in enumerate(np.bincount(place, minlength=len(pieces))):
                if count:
                    offset = file.tell()
                    with pa.ipc.new_stream(file, rows.schema) as writer:
                        writer.write_batch(rows.slice(start, count))
                    pieces[number].append(Piece(scratch, offset))
                    start += int(count)
    return pieces


def _listed(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Replace text that repeats by numbers and a list of the distinct values."""
    for name in REPEATED:
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, rows[name].dictionary_encode())
    return rows


def _write_range(pieces: Sequence[Piece], path: Path) -> None:
    write_part(_gather(pieces), path)


def _gather(pieces: Sequence[Piece]) -> pa.Table:
    """Read the rows of one range."""
    tables = []
    for path, offset in pieces:
        with pa.memory_map(str(path)) as file:
            file.seek(offset)
            tables.append(pa.ipc.open_stream(file).read_all())
    return pa.concat_tables(tables)


def _range(cuts: Sequence[RangeStart], first: int = 0) -> str:
    """Return SQL for the number of a row's range: a binary search among the cuts."""
    if not cuts:
        return str(first)
    middle = len(cuts) // 2
    left, right = _range(cuts[:middle], first), _range(cuts[middle + 1 :], first + middle + 1)
    return f"if({_before(cuts[middle])}, {left}, {right})"


def _before(cut: RangeStart) -> str:
    """Return SQL for whether a row comes before a cut; null, which counts as no, if its noun is."""
    if cut.noun is None:
        image = "" if cut.image_id is None else f" or image_id < {cut.image_id}"
        return f"noun is not null{image}"
    noun = literal(cut.noun)
    if cut.image_id is None:
        return f"noun < {noun}"
    return f"(noun < {noun} or (noun = {noun} and image_id < {cut.image_id}))"


# --------------------------------------------------------------------------------------
# Threads


def _in_threads(threads: int, calls: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of calls in order; the first error ends those that have not begun."""
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return [future.result() for future in futures]
