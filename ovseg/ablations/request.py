"""What `ovseg ablate` was asked for, before anything is started: a list, or tables to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.ablations.listing import show_tables
from ovseg.ablations.plan import plan_ablations
from ovseg.ablations.tables import chosen_tables
from ovseg.errors import OvsegError


def check_request(
    request: Mapping[str, Any],
    tables: Sequence[str] | None,
    *,
    seeds: int,
    listed: bool,
    out: Path | None = None,
) -> bool:
    """List the tables, or find what is wrong with those that are to be run.

    Args:
        request: the arguments of `ovseg.configure.configure`.
        tables: their names, or `all`; all are listed where empty.
        seeds: how many.
        listed: list them, run nothing.
        out: page to write.

    Returns:
        Whether there is something to run.

    Raises:
        OvsegError: for a name there is not, a page that cannot be a file, and what
            `plan_ablations` refuses.
    """
    if listed or not tables:
        show_tables(tables, request["preset"], seeds=seeds)
        return False
    if out is not None and (out.is_dir() or any(parent.is_file() for parent in out.parents)):
        raise OvsegError(f"--out {out} can be no file: name a page, as docs/ablations.md")
    plan_ablations(chosen_tables(tables), **request, seeds=seeds, out=out)
    return True
