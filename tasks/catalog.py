"""The analysts' catalog as a task: republished whenever a flow has new results."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ovseg.catalog.catalog import build_catalog, open_catalog
from ovseg.catalog.query import failed_checks
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


@task(task_run_name="check tables", cache_policy=NO_CACHE, persist_result=False)
def check_catalog(root: Path) -> list[str]:
    """Run every check of `sql/tests` over the catalog.

    Args:
        root: the folder of all results.

    Returns:
        The names of the failed checks; each is logged as an error.
    """
    with open_catalog(root) as con:
        failed = failed_checks(con)
    for name, rows in failed.items():
        get_run_logger().error(
            "check %s found %d invalid rows (at most 100 are counted): see sql/tests/%s.sql",
            name,
            rows.num_rows,
            name,
        )
    return sorted(failed)
