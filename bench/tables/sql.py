"""Seconds of every shipped select over pair tables of N pairs, with two threads and 2 GB.

    python -m bench sql                                   # 1.32 million pairs, as COCO gives
    python -m bench.tables.sql --pairs 13200000 --root /tmp/big  # ten times that; the root is kept

The files are in the system's cache (each select runs once before it is timed) and nothing else is:
every run opens them anew. Queries and views give the rows that `ovseg sql` prints, checks the
offending rows, selects of the report everything. `bench/tables/before/` holds the texts that were
rewritten; they, and selects over views whose rows the catalog now stores, are timed in turn with
the shipped ones. Storing them is timed, too.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bench.made_up.draws import Scale
from bench.made_up.tables import LABELS, publish
from ovseg.catalog.catalog import DATABASE, build_catalog, current_results
from ovseg.catalog.relations import base_relations
from ovseg.catalog.stored import tables
from ovseg.files.sql_files import SqlFile, sql_file, sql_files
from ovseg.mining.pairs.curation import threads
from ovseg.mining.pairs.sql import columns, identifier, literal, scan
from ovseg.mining.pairs.table import table_files
from ovseg.stages.schema import PAIRS

THREADS, MEMORY = 2, "2GB"
SHOWN = 41
"""Rows that `ovseg sql` reads to print 40."""
BEFORE = Path(__file__).parent / "before"
PARAMETERS: dict[str, list[Any]] = {
    "benchmark_images": [LABELS],
    "classes": [LABELS],
    "curve_settings": [LABELS],
    "image_scores": [LABELS],
    "mask_confusions": [LABELS],
    "pixel_confusions": [LABELS],
    "sample_pairs": [["person", "tree", "car", "sky", "cat", "grass"], 8],
    "worst_masks": [LABELS, "finetuned", 12],
}


def text_before(file: SqlFile) -> str:
    """Return the text of a file before it was rewritten; its own if it never was."""
    path = BEFORE / file.path.parent.name / file.path.name
    return path.read_text(encoding="utf-8") if path.is_file() else file.text


@contextmanager
def opened(
    root: Path, *, before: bool = False, workers: int = THREADS
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection to a root's catalog, or to its relations with the views of before."""
    with tempfile.TemporaryDirectory(prefix="ovseg-bench-") as spill:
        config = {"threads": workers, "memory_limit": MEMORY, "temp_directory": spill}
        with duckdb.connect(config=config) as con:
            if before:
                for name, base in base_relations(current_results(root)).items():
                    con.execute(f"create view {identifier(name)} as {base.select}")
                for view in sql_files("views"):
                    con.execute(f"create view {identifier(view.name)} as {text_before(view)}")
            else:
                con.execute(f"attach {literal(str(root / DATABASE))} as catalog (read_only)")
                con.execute("use catalog")
            yield con


@contextmanager
def curating(
    root: Path, file: SqlFile, *, before: bool = False, workers: int = THREADS
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection as a curation is run on: the tables, one thread unless any will do."""
    workers = 1 if before else min(workers, threads(file.text))
    with tempfile.TemporaryDirectory(prefix="ovseg-bench-") as spill:
        config = {"threads": workers, "memory_limit": MEMORY, "temp_directory": spill}
        with duckdb.connect(config=config) as con:
            items = [
                each for each in current_results(root) if each.manifest.stage == "tables/pairs"
            ]
            files = [path for item in items for path in table_files(item.manifest)]
            con.execute(f"create view pairs as select {columns(PAIRS)} from {scan(files)}")
            con.execute(f"create view kept_pairs as {sql_file('views', 'kept_pairs').text}")
            yield con


def place(
    root: Path, file: SqlFile, *, before: bool = False, workers: int = THREADS
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Return the connection to run a file on."""
    if file.path.parent.name == "curation":
        return curating(root, file, before=before, workers=workers)
    return opened(root, before=before, workers=workers)


def changed(files: Sequence[SqlFile]) -> set[Path]:
    """Return the files that are answered otherwise than before.

    They have another text, read a view that has or that the catalog stores, or may now use more
    threads.
    """
    views, paths = set(), set()
    with duckdb.connect() as con:
        for file in files:  # views come first, each after those that it reads
            if (
                text_before(file) != file.text
                or file.stored
                or tables(con, file.text) & views
                or (file.path.parent.name == "curation" and file.listed("Threads"))
            ):
                paths.add(file.path)
                views |= {file.name} if file.path.parent.name == "views" else set()
    return paths


def run(con: duckdb.DuckDBPyConnection, file: SqlFile, text: str, *, streamed: bool) -> pa.Table:
    """Run a select as what ships runs it, and return its rows."""
    match file.path.parent.name:
        case "queries" | "tests" | "views" as kind:
            rows = 100 if kind == "tests" else SHOWN
            relation = con.sql(f"from {file.name}" if kind == "views" else text)
            if not streamed:
                return relation.limit(rows).to_arrow_table()
            reader = relation.to_arrow_reader(rows)
            return pa.Table.from_batches(list(islice(reader, 1)), schema=reader.schema)
        case _:
            return con.sql(text, params=PARAMETERS.get(file.name)).to_arrow_table()


def stored_again(root: Path) -> float:
    """Build the catalog anew and return the processor time of that."""
    (root / DATABASE).unlink()
    began = time.process_time()
    build_catalog(root, {})
    return time.process_time() - began


def everything() -> list[SqlFile]:
    """Return all shipped selects."""
    kinds = ("views", "queries", "tests", "curation", "report")
    return [file for kind in kinds for file in sql_files(kind)]


def measure(
    root: Path, files: list[SqlFile], *, runs: int = 3, before: bool = True
) -> Iterator[tuple[SqlFile, float, float]]:
    """Yield each file with its median seconds before it was rewritten, if it was, and now."""
    others = changed(everything()) if before else set()
    for file in files:
        times: Mapping[bool, list[float]] = {True: [], False: []}
        rewritten = file.path in others
        for old in (True, False) if rewritten else (False,):
            with place(root, file, before=old) as con:
                text = text_before(file) if old else file.text
                for index in range(runs + 1):
                    began = time.perf_counter()
                    run(con, file, text, streamed=old)
                    if index:
                        times[old].append(time.perf_counter() - began)
        now = statistics.median(times[False])
        yield file, statistics.median(times[True]) if rewritten else now, now


def main(words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Print the seconds of every select that takes long or was rewritten, and the slowest."""
    parser = argparse.ArgumentParser(prog="python -m bench.tables.sql", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_320_000)
    parser.add_argument("--no-masks", action="store_true", help="leave the mask bytes out")
    parser.add_argument("--root", type=Path, help="made tables are kept here; else temporary")
    parser.add_argument("--runs", type=int, default=1, help="timed runs after one that is not")
    options = parser.parse_args(list(words))
    with tempfile.TemporaryDirectory(prefix="ovseg-bench-") as folder:
        root, scale = options.root or folder, Scale(pairs=options.pairs, masks=not options.no_masks)
        began = time.perf_counter()
        publish(Path(root), scale)
        print(f"  {scale.pairs:,} pairs of {scale.images:,} images made and published in"
              f" {time.perf_counter() - began:.0f} s; {THREADS} threads, {MEMORY}")  # fmt: skip
        print(f"  the catalog's stored views: {stored_again(Path(root)):.2f} s of work")
        return _report(Path(root), scale, runs=options.runs)


def _report(root: Path, scale: Scale, *, runs: int) -> list[dict[str, Any]]:
    figures, slowest, others = [], ("", 0.0), changed(everything())
    for file, before, now in measure(root, everything(), runs=runs):
        name = f"{file.path.parent.name}/{file.name}"
        if now > slowest[1]:
            slowest = name, now
        if file.path in others:
            print(f"  {name:40} {before:7.2f} s before   {now:7.2f} s   {before / now:5.1f} x")
            figures.append(
                {"what": f"sql {name}, {scale.pairs:,} pairs", "before": before, "after": now,
                 "unit": "s", "ratio": before / now, "kind": "byte-equal"}
            )  # fmt: skip
        elif now > 0.5:
            print(f"  {name:40} {'':16} {now:7.2f} s")
    print(f"  the slowest: {slowest[0]}, {slowest[1]:.2f} s; peak memory of the process"
          f" {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")  # fmt: skip
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
