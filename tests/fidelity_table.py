"""Comparisons with the official implementation's recorded outputs, collected into a table.

    make fidelity        (pytest -m golden --fidelity=docs/fidelity.md)

A test that compares with a recording asks for the fixture `agrees`; that also gives it the marker
`golden`. Every comparison of a session is kept, and `--fidelity FILE` writes them between the two
comments `BEGIN` and `END` of that file. Only a whole run writes: every golden test ran and passed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

BEGIN = "<!-- table of make fidelity: begin -->"
END = "<!-- table of make fidelity: end -->"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One comparison: `error` and `tolerance` are parts of the recorded tensor's largest value."""

    case: str
    what: str
    error: float
    tolerance: float
    test: str


def relative_error(ours: Any, recorded: Any) -> float:
    """The largest difference as a part of the largest recorded value.

    Integers, booleans and texts are equal or not: the result is the part of entries that differ.

    Args:
        ours: a tensor, array, number or list.
        recorded: the same, of the same shape. NaN agrees with NaN, an infinity with itself.

    Raises:
        AssertionError: the shapes differ.
    """
    mine, theirs = (np.asarray(_plain(value)) for value in (ours, recorded))
    assert mine.shape == theirs.shape, f"shape {mine.shape}, recorded {theirs.shape}"
    if mine.size == 0:
        return 0.0
    if theirs.dtype.kind != "f":
        return float((mine != theirs).mean())
    mine, theirs = mine.astype(np.float64), theirs.astype(np.float64)
    same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
    if not np.isfinite(mine[~same]).all() or not np.isfinite(theirs[~same]).all():
        return float("inf")
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = max(1e-12, float(finite.max(initial=0.0)))
    return float(np.abs(mine[~same] - theirs[~same]).max(initial=0.0)) / scale


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


@pytest.fixture
def agrees(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Assert that a value agrees with a recording, and keep the error for the table.

    agrees(case, what, ours, recorded, tolerance=...): `case` is "folder/case" of the recordings,
    `what` a short plain name; the largest difference is at most `tolerance` times the largest
    recorded value; integers, booleans and texts are equal (tolerance 0).
    """
    test = request.node.nodeid.split("[")[0].removeprefix("tests/")
    kept: list[Comparison] = request.config.stash[COMPARISONS]

    def check(case: str, what: str, ours: Any, recorded: Any, *, tolerance: float) -> None:
        error = relative_error(ours, recorded)
        kept.append(Comparison(case=case, what=what, error=error, tolerance=tolerance, test=test))
        assert error <= tolerance, f"{case}, {what}: {error:.3g} of its scale, over {tolerance:g}"

    return check


# --------------------------------------------------------------------------------------
# The session

COMPARISONS = pytest.StashKey[list[Comparison]]()
UNFINISHED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fidelity",
        metavar="FILE",
        help="write the table of all comparisons with recordings into FILE (see `make fidelity`)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COMPARISONS] = []
    config.stash[UNFINISHED] = []


@pytest.hookimpl(tryfirst=True)  # before `-m golden` selects by the marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "agrees" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.golden)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if not report.passed and item.get_closest_marker("golden"):
        item.config.stash[UNFINISHED].append(f"{item.nodeid} {report.outcome}")
    return report


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    target = config.getoption("--fidelity")
    if target is None:
        return
    reason = _why_not(config, exitstatus)
    if reason is None:
        path = config.rootpath / target
        comparisons = config.stash[COMPARISONS]
        path.write_text(with_table(path.read_text(encoding="utf-8"), comparisons), "utf-8")
        terminalreporter.write_line(f"{target}: {len(table_rows(comparisons))} comparisons")
    else:
        terminalreporter.write_line(f"{target} stays as it is: {reason}")


def _why_not(config: pytest.Config, exitstatus: int) -> str | None:
    unfinished = config.stash[UNFINISHED]
    if unfinished:
        return f"{len(unfinished)} golden tests did not pass, the first: {unfinished[0]}"
    if exitstatus != 0:
        return f"the run ended with status {int(exitstatus)}"
    chosen = config.getoption("markexpr"), config.getoption("keyword")
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or chosen not in (
        ("golden", ""),
        ("", ""),
    ):
        return "this run chose some of the tests; `make fidelity` runs all golden ones"
    return None


# --------------------------------------------------------------------------------------
# The table


def worst_of_each(comparisons: list[Comparison]) -> list[Comparison]:
    """One comparison a case and what, of several the one with the largest error, in order."""
    worst: dict[tuple[str, str], Comparison] = {}
    for item in comparisons:
        known = worst.get((item.case, item.what))
        if known is None or item.error > known.error:
            worst[item.case, item.what] = item
    return [item for _, item in sorted(worst.items())]


def table_rows(comparisons: list[Comparison]) -> list[str]:
    """Rows of the Markdown table, one a case and what."""
    return [
        f"| {_cell(item.case)} | {_cell(item.what)} | {_number(item.error)}"
        f" | {_number(item.tolerance)} | `{item.test}` |"
        for item in worst_of_each(comparisons)
    ]


def summary_rows(comparisons: list[Comparison]) -> list[str]:
    """Rows of a Markdown table of the folders: comparisons, those of tolerance 0, largest error."""
    folders: dict[str, list[Comparison]] = {}
    for item in worst_of_each(comparisons):
        folders.setdefault(item.case.partition("/")[0], []).append(item)
    rows = []
    for folder, items in folders.items():
        exact = sum(item.tolerance == 0 for item in items)
        last = max(items, key=lambda item: item.error)
        name = f"{last.case.partition('/')[2]}: {last.what}" if last.error else ""
        rows.append(
            f"| {folder} | {len(items)} | {exact} | {_number(last.error)} | {_cell(name)} |"
        )
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")


def with_table(text: str, comparisons: list[Comparison]) -> str:
    """The text with the tables between its two comments.

    Raises:
        ValueError: the comments are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the file needs the lines {BEGIN} and {END}")
    lines = [
        "| recordings | comparisons | of tolerance 0 | largest error | of |",
        "|---|---|---|---|---|",
        *summary_rows(comparisons),
        "",
        "<details><summary>All comparisons</summary>",
        "",
        "| case | what | error | tolerance | test |",
        "|---|---|---|---|---|",
        *table_rows(comparisons),
        "",
        "</details>",
    ]
    return "\n".join([head + BEGIN, "", *lines, "", END + tail])
