"""The analysts' catalog as a task: republished whenever a flow has new results."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import duckdb
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ovseg.catalog.catalog import BlockedError, build_catalog
from ovseg.catalog.query import failed_checks
from ovseg.files.sql_files import sql_files
from ovseg.stages.manifest import Manifest


@task(task_run_name="publish catalog", cache_policy=NO_CACHE, persist_result=False)
def publish_catalog(root: Path, manifests: dict[str, Manifest]) -> Path:
    """Point the catalog at these manifests and rebuild its views.

    Args:
        root: the folder of all results.
        manifests: finished stages by role; other pointers of the catalog stay.

    Returns:
        Path of `catalog.duckdb`.
    """
    return build_catalog(root, manifests)


class Checked(NamedTuple):
    """What the checks of `sql/tests` said of new results.

    Attributes:
        failed: the names of those that failed.
        blocked: why the results were not published; None if they were.
    """

    failed: list[str]
    blocked: BlockedError | None = None

    def stop_if_blocked(self) -> None:
        """End a flow whose results were not published, before anything is made of them.

        Raises:
            BlockedError: they were not.
        """
        if self.blocked is not None:
            raise self.blocked


@task(task_run_name="check and publish tables", cache_policy=NO_CACHE, persist_result=False)
def publish_checked(root: Path, manifests: dict[str, Manifest]) -> Checked:
    """Run every check of `sql/tests` over new results, and publish them unless one blocks.

    Args:
        root: the folder of all results.
        manifests: finished stages by role.

    Returns:
        The failed checks; each is logged, as an error if it blocks, else as a warning.
    """
    severities = {file.name: file.severity for file in sql_files("tests")}
    failed: dict[str, int] = {}

    def gate(con: duckdb.DuckDBPyConnection) -> list[str]:
        failed.update({name: rows.num_rows for name, rows in failed_checks(con).items()})
        return [name for name in failed if severities[name] == "error"]

    blocked = None
    try:
        build_catalog(root, manifests, gate=gate)
    except BlockedError as error:
        blocked = error
    for name, rows in failed.items():
        level = logging.ERROR if severities[name] == "error" else logging.WARNING
        get_run_logger().log(
            level,
            "check %s found %d invalid rows (at most 100 are counted): see sql/tests/%s.sql",
            name,
            rows,
            name,
        )
    return Checked(failed=sorted(failed), blocked=blocked)
