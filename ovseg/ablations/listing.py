"""The terminal listing of the ablations and their costs: `ovseg ablate` without tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovseg.ablations.cells import Cell, Settings, Table
from ovseg.ablations.plan import Cost, cost, plan_ablations
from ovseg.ablations.tables.registry import TABLES, chosen_tables
from ovseg.files.terminal import Terminal

MINUTES = {"mining": 1.5, "training": 1.1, "benchmark": 0.5, "cell": 0.1}
"""Of the storybook on 2 CPU cores: 800 scenes mined; a phase on the 2,500 pairs that agree (those
of all captions take three times as long); 240 scenes scored; what finding a cell done takes."""


def minutes(steps: Cost, runs: int) -> float:
    """Estimate how long some steps take on the storybook.

    Args:
        steps: the distinct steps.
        runs: number of cells times seeds; each takes a moment even if nothing is computed.
    """
    return (
        steps.minings * MINUTES["mining"]
        + steps.trainings * MINUTES["training"]
        + steps.benchmarks * MINUTES["benchmark"]
        + runs * MINUTES["cell"]
    )


def show_tables(names: Sequence[str] | None, preset: str, *, seeds: int) -> None:
    """Print tables with their cells, the paper's figures, what to expect and what it costs.

    Args:
        names: of the tables; defaults to all.
        preset: the preset whose cells are shown.
        seeds: number of seeds for the cost.

    Raises:
        OvsegError: for an invalid number of seeds, before a line is printed.
    """
    console = Terminal(highlight=False)
    for line in list(list_lines(names, preset, seeds=seeds)):
        console.print(line, markup=False, soft_wrap=True)


def list_lines(names: Sequence[str] | None, preset: str, *, seeds: int) -> Iterator[str]:
    """Yield the lines that `show_tables` prints."""
    tables = chosen_tables(names) if names else dict(TABLES)
    counted = preset == "storybook"  # other presets need a user's data to configure a cell
    for name, whole in tables.items():
        table = whole.of(preset)
        yield f"{name}: {table.title}"
        yield f"  {table.question}"
        for slug, cell in table.cells.items():
            marks = ["every seed" if cell.repeated else "seed 0"]
            marks += ["reference"] if slug == table.reference else []
            yield f"  - {slug}: {cell.title} ({', '.join(marks)}){_changes(cell)}"
        for title, reason in table.skipped.items():
            yield f"  - {title}: skipped, {reason}"
        for claim in table.claims:
            yield f"  claim: {claim.text}"
        if table.published is not None:
            yield f"  published ({table.published.source}):"
            yield f"    {' | '.join(table.published.headings)}"
            yield from (f"    {' | '.join(row)}" for row in table.published.rows)
        yield f"  on real data expect: {table.expect}"
        yield f"  on real data it costs: {table.cost}"
        if counted:
            yield f"  on the storybook: {_cost({name: whole}, seeds)}"
        yield ""
    if counted and len(tables) > 1:
        yield f"all of these on the storybook: {_cost(tables, seeds)}"


def _changes(cell: Cell) -> str:
    """Describe what a cell sets and trains; empty for the preset's original CLIP."""
    phases = [f"{phase['trains']}{_settings(phase)}" for phase in cell.trains]
    return f"{_settings(cell.settings)}{' trains ' if phases else ''}{', then '.join(phases)}"


def _settings(settings: Settings) -> str:
    return "".join(f" {name}={value}" for name, value in settings.items() if name != "trains")


def _cost(tables: dict[str, Table], seeds: int) -> str:
    runs = list(plan_ablations(tables, "storybook", seeds=seeds).runs)
    steps = cost(runs)
    return (
        f"{len(runs)} cells with {'1 seed' if seeds == 1 else f'{seeds} seeds'}, {steps.minings}"
        f" minings, {steps.trainings} training phases, {steps.benchmarks} benchmarks: about"
        f" {minutes(steps, len(runs)):.0f} min on 2 CPU cores"
    )
