"""The order in which test processes take the files: the longest first, and some of them together.

With `--dist loadfile` a file is one piece of work, and a process that has none left takes the next.
A long one that is taken last keeps one process busy while the others have nothing to do.
"""

import pytest

TOGETHER = ("flows/",)
"""Folders that one process tests: their tests share a Prefect server and a run of the chain."""
APART = ("flows/test_deployments_run.py",)
"""Files of these folders that start servers of their own."""
LONGEST_FIRST = (
    *APART,
    *TOGETHER,
    "test_bench_gpu.py",
    "tasks/test_mlflow_store.py",
    "catalog/test_rewritten.py",
    "catalog/test_catalog.py",
    "report/test_report.py",
    "cli/test_cli.py",
    "tasks/test_tracking.py",
)
"""Beginnings of paths below this folder; what is not listed comes after, in its usual order."""


def place(nodeid: str) -> int:
    """Return where in the order a test's file is."""
    path = nodeid.partition("tests/")[2]
    places = (at for at, start in enumerate(LONGEST_FIRST) if path.startswith(start))
    return next(places, len(LONGEST_FIRST))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a process that shares the work with others."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Keep the order above, and together what goes together."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Ordered(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = super()._split_scope(nodeid)
            below = path.partition("tests/")[2]
            if below.startswith(APART):
                return path
            return next((folder for folder in TOGETHER if below.startswith(folder)), path)

    config.option.loadscopereorder = False  # by the number of tests
    return Ordered(config, log)
