"""Parquet as results are written and read: zstd, the same bytes for equal tables, checksums.

Every page carries a checksum, which `read_parquet` verifies, because a file is trusted if its size
and time are those that it was written with. DuckDB neither writes nor verifies checksums.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ovseg.errors import OvsegError

ROW_GROUP = 122_880
"""Rows of a row group, DuckDB's default: scans parallelize by row group, and groups of a few
thousand rows slow them."""


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as zstd Parquet, byte-identical for equal tables; not atomic on its own."""
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=ROW_GROUP,
        store_schema=True,
        write_page_checksum=True,
    )


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table of one file, and verify the checksums of its pages.

    Args:
        path: the file; one of an earlier version has no checksums.
        columns: names of those to read; all by default.

    Raises:
        OSError: it cannot be opened.
        OvsegError: it is damaged.
    """
    names = None if columns is None else list(columns)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(names)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = " ".join(str(error).split())
        raise OvsegError(
            f"{path} is damaged ({why:.200}): delete it and run again; `ovseg verify` finds every"
            " damaged file"
        ) from error
