"""The published pair table: staging shards compacted into totally ordered Parquet files.

table = run_stage(PAIR_TABLE, TableConfig(dataset="coco"), {"pairs": pairs}, root)
table_files(table)  # [.../dataset=coco/round=0/part-00000.parquet]

The files follow each other in the order (noun, image_id, pair_id); `ovseg.mining.pairs.compaction`
says where one ends. All cores work on it, and the bytes do not depend on how many there are.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow.parquet as pq

from ovseg.config.mining import TableConfig
from ovseg.errors import OvsegError
from ovseg.files.publish import discard
from ovseg.mining.pairs.compaction import (
    DuplicateGrainError,
    NounCount,
    compact,
    connection,
    noun_counts,
)
from ovseg.mining.pairs.sql import literal, one_line, scan
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import PAIRS
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.stages.threads import cores

MOST_THREADS = 8
"""More threads would wait for the disk; each may take 1.5 GB."""


class PairTable(Stage[TableConfig]):
    """Compacts the staging shards of a pairing (input `pairs`); one shard, a folder."""

    name = "tables/pairs"
    suffix = ""

    def plan(self, config: TableConfig, inputs: Inputs) -> ShardPlan:
        """Return one shard over all pairs."""
        return ShardPlan.single(inputs["pairs"].plan.ids_digest, inputs["pairs"].rows)

    def write(
        self, config: TableConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Check the shards and write `target/dataset=<name>/round=<n>/part-00000.parquet`, ...

        Raises:
            OvsegError: if a shard has other columns or a pair of another data set, round or source,
                or two rows share a pair_id or the grain.
        """
        shards = inputs["pairs"].paths()
        for path in shards:
            _check_schema(path)
        folder = target / f"dataset={quote(config.dataset, safe='')}" / f"round={config.round}"
        folder.mkdir(parents=True)
        spill, threads = target / "spill", min(cores(), MOST_THREADS)
        try:
            with connection(threads, spill) as con:
                _check_rows(con, config, shards)
                counts = noun_counts(con, shards)
                stats = _stats(con, shards, counts)
                try:
                    compact(shards, folder, spill=spill, threads=threads, counts=counts)
                except DuplicateGrainError:
                    _refuse_duplicates(con, shards, "image_id, noun")
                    raise
        except duckdb.Error as error:
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, one_line(error)) from error
            raise OvsegError(
                f"the pair shards in {inputs['pairs'].folder} cannot be compacted: "
                f"{one_line(error)}; run the pairing again"
            ) from error
        finally:
            discard(spill)
        progress(stats["rows"])
        return Output(rows=stats["rows"], stats=stats)


PAIR_TABLE = PairTable()


def table_files(table: Manifest) -> list[Path]:
    """Return the absolute paths of a published pair table's Parquet files, in table order."""
    return sorted(table.payload().rglob("part-*.parquet"))


# --------------------------------------------------------------------------------------


def _check_schema(path: Path) -> None:
    schema = pq.read_schema(path)
    for field in PAIRS:
        index = schema.get_field_index(field.name)
        if index < 0 or schema.field(index).type != field.type:
            has = "no such column" if index < 0 else str(schema.field(index).type)
            raise OvsegError(
                f"{path}: column {field.name} should be {field.type} but is {has};"
                " the shard was written by another version, run the pairing again"
            )
    if unknown := set(schema.names) - set(PAIRS.names):
        raise OvsegError(
            f"{path}: column {min(unknown)} is not in the pair schema; the shard was written by"
            " another version, run the pairing again"
        )


def _check_rows(
    con: duckdb.DuckDBPyConnection, config: TableConfig, shards: Sequence[Path]
) -> None:
    if not shards:
        raise OvsegError("a pair table needs at least one shard of pairs: run the pairing first")
    source = scan(shards)
    other = con.execute(
        f"select source, dataset, round from {source}"
        f" where source is distinct from {literal(config.source)}"
        f" or dataset is distinct from {literal(config.dataset)}"
        f" or round is distinct from {config.round} limit 1"
    ).fetchone()
    if other is not None:
        raise OvsegError(
            f"a pair belongs to source={other[0]} dataset={other[1]} round={other[2]}, but the"
            f" table is source={config.source} dataset={config.dataset} round={config.round}:"
            " publish it with the settings it was paired with"
        )
    # Numbers instead of text, half of the time; text only if there are equal numbers.
    equal = con.execute(
        f"select 1 from {source} group by hash(pair_id) having count(*) > 1 limit 1"
    ).fetchone()
    if equal is not None:
        _refuse_duplicates(con, shards, "pair_id")


def _refuse_duplicates(con: duckdb.DuckDBPyConnection, shards: Sequence[Path], key: str) -> None:
    """Raise an error if two rows share a key, which the message names."""
    duplicate = con.execute(
        f"select {key}, count(*) as n from {scan(shards)} group by all"
        f" having n > 1 order by {key} limit 1"
    ).fetchone()
    if duplicate is not None:
        value = ", ".join(str(part) for part in duplicate[:-1])
        raise OvsegError(
            f"{duplicate[-1]} pairs have the same {key} ({value}): an image is listed"
            " twice; check the ids in the captions file and run the pairing again"
        )


def _stats(
    con: duckdb.DuckDBPyConnection, shards: Sequence[Path], counts: Sequence[NounCount]
) -> dict[str, Any]:
    dropped = con.execute(
        "select split_part(drop_reason, ':', 1), count(*)"
        f" from {scan(shards)} where not kept group by all order by all"
    ).fetchall()
    nouns = [each for each in counts if each.noun is not None]
    return {
        "rows": sum(each.rows for each in counts),
        "kept": sum(each.kept for each in counts),
        "nouns": len(nouns),
        "kept_nouns": sum(each.kept > 0 for each in nouns),
        "dropped": {str(reason): count for reason, count in dropped},
    }
