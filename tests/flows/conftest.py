"""A real Prefect server, and one small but whole run that several tests look at."""

import os
from pathlib import Path

import pytest

SMALL = {
    "data.mining_world.scenes": 24,
    "data.benchmark_world.scenes": 6,
    "data.min_shards": 8,
    "arms.epochs": 1,
    "arms.batch_size": 32,
    "arms.warmup_steps": 2,
    "arms.snapshots": 2,
}


@pytest.fixture(scope="session", autouse=True)
def prefect_server(migrated_once, tmp_path_factory):
    """Prefect's own test harness: a server on a temporary database and home."""
    home = tmp_path_factory.mktemp("prefect")
    os.environ["PREFECT_HOME"] = str(home)
    os.environ["PREFECT_LOCAL_STORAGE_PATH"] = str(home / "storage")
    from cachetools import TTLCache
    from prefect.concurrency import services
    from prefect.testing.utilities import prefect_test_harness

    # Tasks ask every 5 s whether their tags have a limit; a database that is locked at that moment
    # costs 2 s. No test sets a limit for tasks.
    asked = TTLCache(maxsize=1000, ttl=3600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "_no_limits_cache", asked)
        with prefect_test_harness(server_startup_timeout=180):
            yield


@pytest.fixture(scope="session")
def small():
    """The settings that make the storybook preset small."""
    return SMALL


@pytest.fixture(scope="session")
def small_run(prefect_server, tmp_path_factory):
    """The storybook preset, small, from end to end: (root, summary)."""
    from flows.pipeline import pipeline

    root: Path = tmp_path_factory.mktemp("run") / "results"
    return root, pipeline("storybook", root=root, overrides=SMALL)
