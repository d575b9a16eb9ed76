"""What was asked of the ablations, before anything is started: a list, or tables to run."""

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
"""Of the arguments of `ovseg.config.request.resolve` those that a list has no use for."""


def check_request(
    request: Mapping[str, Any],
    tables: Sequence[str] | None,
    *,
    seeds: int,
    listed: bool,
    out: Path | None = None,
) -> bool:
    """List the tables, or find what is wrong with those that are to be run.

    A list needs none of the data that running does, so that of a preset over a user's own images
    it is shown without them; names and settings have to be right all the same.

    Args:
        request: the arguments of `ovseg.config.request.resolve`.
        tables: their names, or `all`; all are listed where empty.
        seeds: how many.
        listed: list them, run nothing.
        out: page to write.

    Returns:
        Whether there is something to run.

    Raises:
        OvsegError: for what `plan_request` refuses; of a list for tables, a preset and settings
            there are not, before a line is shown.
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
    """The runs of tables by name; what is wrong with a request is found here, by command and flow.

    Args:
        tables: their names, or `all`.
        preset: one of `ovseg.config.presets.PRESETS`.
        seeds: how many.
        out: page to write.
        given: other arguments of `plan_ablations`.

    Raises:
        OvsegError: for no name or one there is not, a page that cannot be a file, and what
            `plan_ablations` refuses.
    """
    chosen = chosen_tables(tables)
    if not chosen:
        raise OvsegError(
            "no table is named: name those to run, as `ovseg ablate` lists them, or all"
        )
    if out is not None:
        check_page(out)
    return plan_ablations(chosen, preset, seeds=seeds, out=out, **given)
