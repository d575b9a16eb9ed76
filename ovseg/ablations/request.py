"""What was asked of the ablations, before anything is started: a list, or tables to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.ablations.listing import show_tables
from ovseg.ablations.plan import Plan, plan_ablations
from ovseg.ablations.tables import chosen_tables
from ovseg.availability import check_available
from ovseg.configure import changed_preset
from ovseg.errors import OvsegError
from ovseg.targets import check_file_target, check_replaceable

RUN_ALONE = ("root", "captions", "images", "seed")
"""Of the arguments of `ovseg.configure.configure` those that a list has no use for."""


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
        request: the arguments of `ovseg.configure.configure`.
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
        preset: one of `ovseg.presets.PRESETS`.
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


MADE_BY, HEADING = "ovseg ablate", "# Ablations\n\nWritten by one command, not by hand:\n"
"""By what the folder of the plots, and by what the page itself, is known to be replaceable."""


def check_page(out: Path) -> None:
    """Refuse a page, or a folder of plots, that is there and that this command did not make.

    Args:
        out: page to write; its plots go to the folder of its name without the suffix.

    Raises:
        OvsegError: it cannot be a file, or something else would be replaced.
    """
    if not out.suffix or out.is_dir() or any(parent.is_file() for parent in out.parents):
        raise OvsegError(f"--out {out} can be no file: name a page, as docs/ablations.md")
    if out.parent.is_dir():  # else both are new
        check_file_target(out)
        if out.exists() and not _opening(out).startswith(HEADING):
            raise OvsegError(
                f"--out {out} is there already, not made by {MADE_BY}: name a new page, or move"
                " this one away"
            )
        check_replaceable(out.with_suffix(""), MADE_BY, option="--out: the folder of its plots,")


def _opening(page: Path) -> str:
    try:
        with page.open("rb") as stream:
            return stream.read(len(HEADING)).decode("utf-8", "replace")
    except OSError as error:
        raise OvsegError(
            f"--out {page} cannot be read ({error.strerror}): name a new page"
        ) from error
