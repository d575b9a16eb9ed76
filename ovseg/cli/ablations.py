"""The request of `ovseg ablate`, checked before anything starts: a list, or tables to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.ablations.listing import show_tables
from ovseg.ablations.plan import Plan, check_page, plan_ablations
from ovseg.ablations.tables.registry import chosen_tables
from ovseg.cli.availability import check_available
from ovseg.config.request import changed_preset
from ovseg.errors import OvsegError

RUN_ALONE = ("root", "captions", "images", "seed")
"""Arguments of `ovseg.config.request.resolve` that have no effect on a list."""


def check_request(
    request: Mapping[str, Any],
    tables: Sequence[str] | None,
    *,
    seeds: int,
    listed: bool,
    out: Path | None = None,
) -> bool:
    """List the tables, or check a request to run them.

    A list needs no data, so a preset for a user's own images can be listed without them. Names and
    settings must still be valid.

    Args:
        request: the arguments of `ovseg.config.request.resolve`.
        tables: their names, or `all`; a list defaults to all.
        seeds: number of seeds.
        listed: only list them.
        out: page to write.

    Returns:
        Whether there is something to run.

    Raises:
        OvsegError: for what `plan_request` rejects; a list raises for unknown tables, presets and
            settings before it prints a line.
    """
    if listed or not tables:
        given = {"out": out, **{name: request.get(name) for name in RUN_ALONE}}
        for name, value in given.items():
            if value is not None:
                raise OvsegError(
                    f"--{name} has no effect on a list of tables: leave it out, or name tables to"
                    " run, without --list"
                )
        chosen_tables(tables or ())
        changed_preset(request["preset"], request.get("overrides"))
        show_tables(tables, request["preset"], seeds=seeds)
        return False
    for run in plan_request(tables, **request, seeds=seeds, out=out).runs:
        check_available(run.config, mines=True)
    return True


def plan_request(
    tables: Sequence[str], preset: str, *, seeds: int, out: Path | None = None, **given: Any
) -> Plan:
    """Plan the runs of tables by name; the command and the flow both check requests here.

    Args:
        tables: their names, or `all`.
        preset: one of `ovseg.config.presets.PRESETS`.
        seeds: number of seeds.
        out: page to write.
        given: other arguments of `plan_ablations`.

    Raises:
        OvsegError: for a missing or unknown name, a page that cannot be a file, and what
            `plan_ablations` rejects.
    """
    table_names = chosen_tables(tables)
    if not table_names:
        raise OvsegError("name the tables to run, or all; `ovseg ablate` lists them")
    if out is not None:
        check_page(out)
    return plan_ablations(table_names, preset, seeds=seeds, out=out, **given)
