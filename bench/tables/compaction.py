"""Staging shards of pairs into the published table: ranges in threads, one thread, pandas, CSV.

    python -m bench compaction
    python -m bench.tables.compaction --pairs 13200000 --root /tmp/big --only  # no other ways
    python -m bench.tables.compaction --pairs 132000000 --no-masks --root /tmp/big --only

The other ways: the engine sorts everything in one thread into one file, as the table was written
before; pandas reads, sorts and writes all shards; one CSV line a pair. Each is read back once, with
the pairs of one noun selected. Seconds of wall clock and of all threads' work, and bytes.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import importlib.util
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from bench.made_up.draws import Scale
from bench.made_up.tables import pair_shards
from ovseg.files.publish import discard
from ovseg.mining.pairs.compaction import ROW_GROUP, compact
from ovseg.mining.pairs.sql import columns, literal, scan
from ovseg.stages.schema import PAIRS
from ovseg.stages.threads import cores

WANTED = ["pair_id", "image_id", "clip_similarity"]


def one_thread(shards: Sequence[Path], folder: Path) -> list[Path]:
    """Sort all rows in one thread of the engine and write one file."""
    arrow = base64.b64encode(PAIRS.serialize().to_pybytes()).decode()
    path = folder / "part-00000.parquet"
    with duckdb.connect(config={"threads": 1, "temp_directory": str(folder / "spill")}) as con:
        con.execute("set disabled_optimizers = 'statistics_propagation'")
        con.execute(
            f"copy (select {columns(PAIRS)} from {scan(shards)} order by noun, image_id, pair_id)"
            f" to {literal(str(path))} (format parquet, compression zstd,"
            f" row_group_size {ROW_GROUP}, kv_metadata {{'ARROW:schema': {literal(arrow)}}})"
        )
    return [path]


def with_pandas(shards: Sequence[Path], folder: Path) -> list[Path]:
    """Read all shards into one frame, sort it and write it."""
    import pandas

    frame = pandas.concat([pandas.read_parquet(path) for path in shards], ignore_index=True)
    frame = frame.sort_values(["noun", "image_id", "pair_id"])
    frame.to_parquet(folder / "pairs.parquet", compression="zstd", index=False)
    return [folder / "pairs.parquet"]


def as_csv(shards: Sequence[Path], folder: Path) -> list[Path]:
    """Write one line a pair, in the order of the shards."""
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(PAIRS.names)
        for path in shards:
            for batch in pq.ParquetFile(path).iter_batches(10_000):
                for row in batch.to_pylist():
                    if row["mask_counts"] is not None:
                        row["mask_counts"] = row["mask_counts"].decode("ascii")
                    row["mentions"] = json.dumps(row["mentions"])
                    writer.writerow(row.values())
    return [folder / "pairs.csv"]


def read_table(paths: Sequence[Path], noun: str) -> int:
    """Read three columns of the pairs of one noun from the table."""
    with duckdb.connect(config={"threads": 1}) as con:
        select = f"select {', '.join(WANTED)} from {scan(paths)} where noun = $1"
        return con.execute(select, [noun]).to_arrow_table().num_rows


def read_pandas(paths: Sequence[Path], noun: str) -> int:
    """Read the frame and select the pairs of one noun."""
    import pandas

    frame = pandas.read_parquet(paths[0], columns=[*WANTED, "noun"])
    return len(frame[frame["noun"] == noun])


def read_csv(paths: Sequence[Path], noun: str) -> int:
    """Read every line and keep those of one noun."""
    with paths[0].open(newline="") as file:
        return sum(row["noun"] == noun for row in csv.DictReader(file))


def main(words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Print seconds and bytes of each way."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables.compaction", description=__doc__)
    parser.add_argument("--pairs", type=int, default=260_000)
    parser.add_argument("--no-masks", action="store_true", help="leave the mask bytes out")
    parser.add_argument("--root", type=Path, help="made shards are kept here; else temporary")
    parser.add_argument("--only", action="store_true", help="the shipped way alone")
    options = parser.parse_args(list(words))
    with tempfile.TemporaryDirectory(prefix="ovseg-bench-", dir=options.root) as folder:
        scale = Scale(pairs=options.pairs, masks=not options.no_masks)
        shards = pair_shards(options.root or Path(folder), scale).paths()
        print(f"  {scale.pairs:,} pairs in {len(shards)} shards")
        # half of the rows a file: two files at 260,000 pairs, so that two threads have work
        rows = ROW_GROUP if options.pairs < 1_000_000 else 2 * ROW_GROUP
        return _compare(shards, Path(folder), rows, only=options.only)


def _compare(
    shards: Sequence[Path], folder: Path, rows: int, *, only: bool
) -> list[dict[str, Any]]:
    def ranges(threads: int) -> Callable[[Sequence[Path], Path], list[Path]]:
        return lambda shards, target: compact(
            shards, target, spill=target / "spill", threads=threads, part_rows=rows
        )

    ways: list[tuple[str, Any, Any]] = [(f"ranges, {cores()} threads", ranges(cores()), read_table)]
    if not only:
        ways.insert(0, ("ranges, 1 thread", ranges(1), read_table))
        ways.append(("one thread, one file", one_thread, read_table))
        if importlib.util.find_spec("pandas") is None:
            print("  pandas is not installed: not compared")
        else:
            ways.append(("pandas", with_pandas, read_pandas))
        ways.append(("one CSV line a pair", as_csv, read_csv))
    noun = "person" if only else str(pq.read_table(shards[0], columns=["noun"])["noun"][0])
    figures: list[dict[str, Any]] = []
    digests, shipped, shipped_read = set(), 0.0, 0.0
    for name, write, read in ways:
        target = folder / "table"
        target.mkdir()
        began, worked = time.perf_counter(), time.process_time()
        paths = write(shards, target)
        seconds, work = time.perf_counter() - began, time.process_time() - worked
        began = time.perf_counter()
        found = read(paths, noun)
        reading = time.perf_counter() - began
        size = sum(path.stat().st_size for path in paths)
        print(f"  {name:22} {seconds:7.2f} s ({work:6.2f} s of work)   {size / 1e6:8.1f} MB in"
              f" {len(paths)} files   {found} pairs of a noun read in {reading:.3f} s")  # fmt: skip
        if name.startswith("ranges"):
            digests.add(tuple(_sha256(path) for path in paths))
            shipped, shipped_read = seconds, reading
        else:
            for what, before, after in (
                ("write", seconds, shipped),
                ("read", reading, shipped_read),
            ):
                figures.append(
                    {"what": f"pair table, {what}: {name}", "before": before, "after": after,
                     "unit": "s", "ratio": before / after,
                     "kind": "byte-equal" if name.startswith("one thread") else "setting"}
                )  # fmt: skip
        discard(target)
    assert len(digests) == 1, "the bytes depend on the number of threads"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"  the bytes are the same for any number of threads; peak memory {peak:.1f} GB")
    return figures


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main(sys.argv[1:])
