"""The training set is a SQL query over the pair table: which pairs, and the noun of each.

    config = load_curation("capped")  # sql/curation/capped.sql, or a path to your own file
    curated = run_stage(CURATE, config, {"table": table}, root)

The query sees the relation `pairs` (every row of the input tables), the catalog's view `kept_pairs`
of it (the rows no gate dropped), and nothing else: no file, no network. The text of the query and
the view and the content of the tables therefore determine the result. It returns the columns
`pair_id` and `noun`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from ovseg.config.mining import CurationConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.files.sql_files import SqlFile, sql_file
from ovseg.mining.pairs.given_sql import locked
from ovseg.mining.pairs.sql import columns, one_line, scan
from ovseg.mining.pairs.table import table_files
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.schema import CURATED, PAIRS
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.stages.threads import cores


class Curate(Stage[CurationConfig]):
    """Runs the query over the input pair tables (`table` and any others) as one relation."""

    name = "curated"

    def plan(self, config: CurationConfig, inputs: Inputs) -> ShardPlan:
        """Return a single shard."""
        digests = [table.plan.ids_digest for table in inputs.values()]
        return ShardPlan.single(digest_json(digests), sum(table.rows for table in inputs.values()))

    def weights(self, config: CurationConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digest of the view that queries start from."""
        return {"kept_pairs": digest_json(sql_file("views", "kept_pairs").text)}

    def write(
        self,
        config: CurationConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Write the selected pairs, ordered by pair_id.

        Raises:
            OvsegError: if the query is not a single select or fails, or its result has other
                columns, no row, a duplicate pair, a pair without a mask or not in the table, or an
                empty noun.
        """
        files = [path for table in inputs.values() for path in table_files(table)]
        try:
            with _tables(config, files) as con:
                selected = _select(con, config)
                if not selected.num_rows:
                    sources = {str(table.config.get("source")) for table in inputs.values()}
                    raise OvsegError(
                        f"selects no pair of {', '.join(sorted(sources))}; loosen its conditions,"
                        " or name the sources it needs in its header"
                    )
                stats = _check(con, selected)
        except (duckdb.Error, OvsegError) as error:
            raise OvsegError(f"curation {config.query}: {one_line(error)}") from error
        write_parquet(selected, target)
        progress(selected.num_rows)
        return Output(rows=selected.num_rows, stats=stats)


CURATE = Curate()


# --------------------------------------------------------------------------------------
def _tables(
    config: CurationConfig, files: Sequence[Path]
) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
    """Open a database in memory on which the query can read the tables and nothing else."""
    prepare = [
        f"create view pairs as select {columns(PAIRS)} from {scan(files)}",
        f"create view kept_pairs as {sql_file('views', 'kept_pairs').text}",
    ]
    return locked(config.sql, prepare=prepare, readable=files, threads=threads(config.sql))


def threads(sql: str) -> int:
    """Return how many threads may run a curation: one, or all cores if its header says `any`.

    Sums of floats, gates at them, and what is first among equals depend on the order of rows, which
    with several threads depends on the machine.

    Raises:
        OvsegError: the header line `Threads:` says anything else.
    """
    header = SqlFile(name="", path=Path(), text=sql).listed("Threads")
    if header not in ([], ["any"]):
        raise OvsegError(
            f"the header says `Threads: {', '.join(header)}`: write `Threads: any.` if the rows do"
            " not depend on their order, else leave the line out"
        )
    return cores() if header else 1


def _select(con: duckdb.DuckDBPyConnection, config: CurationConfig) -> pa.Table:
    rows = con.sql(config.sql).to_arrow_table()
    if sorted(rows.column_names) != sorted(CURATED.names):
        raise OvsegError(
            f"returns {', '.join(rows.column_names)}; it must return {' and '.join(CURATED.names)}"
        )
    try:
        rows = rows.select(CURATED.names).cast(CURATED)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise OvsegError("pair_id and noun must be text") from error
    return rows.sort_by("pair_id").combine_chunks()


def _check(con: duckdb.DuckDBPyConnection, selected: pa.Table) -> dict[str, Any]:
    """Reject pairs that cannot be trained on, and count the rest."""

    def refuse(pair_id: object, why: str) -> None:
        raise OvsegError(f"pair {pair_id} {why}")

    counts = selected["pair_id"].combine_chunks().value_counts()
    again = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(again):
        pair_id, count = again[0]["values"], again[0]["counts"]
        refuse(pair_id, f"is selected {count} times; select each pair once")
    noun = pc.utf8_trim_whitespace(selected["noun"])
    empty = pc.filter(selected["pair_id"], pc.fill_null(pc.equal(noun, ""), True))
    if len(empty):
        refuse(empty[0], "has no noun; drop it or name it")
    con.register("selected", selected)
    foreign = con.execute(
        "select s.pair_id, p.pair_id is null from selected as s left join pairs as p using"
        " (pair_id) where p.mask_counts is null order by all limit 1"
    ).fetchone()
    if foreign is not None:
        pair_id, unknown = foreign
        refuse(pair_id, "is not in the table" if unknown else "has no mask; select from kept_pairs")
    nouns, images, renamed = con.execute(
        "select count(distinct s.noun), count(distinct (p.dataset, p.image_id)),"
        " count(*) filter (s.noun <> p.noun) from selected as s join pairs as p using (pair_id)"
    ).fetchall()[0]
    return {"pairs": selected.num_rows, "nouns": nouns, "images": images, "renamed": renamed}
