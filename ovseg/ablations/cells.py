"""What an ablation is made of: a table of cells, what is claimed of them, what was published.

A cell is what it changes of a preset, by the dotted names of `ovseg settings`, and the phases it
trains. The tables themselves stand in `ovseg.ablations.tables.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ovseg.config.reporting import Claim, Comparison

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model of an ablation.

    Attributes:
        title: what is shown of it.
        settings: what it changes of the preset, by dotted name.
        trains: the phases of its training in order, each as settings of `FinetuneConfig` over the
            preset's own of such a phase; empty for the original CLIP.
        repeated: run with every seed; else with seed 0 alone.
        presets: the presets it makes sense in; all where empty.
        skipped: why other presets have none, where a reader would look for it.
    """

    title: str
    settings: Settings = field(default_factory=dict)
    trains: tuple[Settings, ...] = ()
    repeated: bool = False
    presets: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Figures as the paper has them, of photographs: never to be set beside those of the storybook.

    Attributes:
        source: where in the paper.
        headings: of the columns, the first a name.
        rows: mIoU in %.
    """

    source: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A named sweep.

    Attributes:
        title: what it is about.
        question: what it asks.
        cells: by slug, in the order they are shown.
        reference: the cell that gains are measured against.
        expect: what the preset `paper` is to show on real data, by the paper.
        cost: what that costs, beside mining once.
        published: the paper's figures, where it has some.
        claims: what is judged.
        note: what else a reader has to know.
        miniature: settings of every cell in the embedded world; a cell's own go before them.
        skipped: by title the cells left out, and why.
    """

    title: str
    question: str
    cells: Mapping[str, Cell]
    reference: str
    expect: str
    cost: str
    published: Published | None = None
    claims: tuple[Claim, ...] = ()
    note: str = ""
    miniature: Settings = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def of(self, preset: str) -> Table:
        """The table with the cells that a preset has."""
        cells = {
            name: cell
            for name, cell in self.cells.items()
            if not cell.presets or preset in cell.presets
        }
        skipped = {
            cell.title: cell.skipped
            for name, cell in self.cells.items()
            if cell.skipped and name not in cells
        }
        return replace(self, cells=cells, skipped=skipped)


ALL_CLASSES = "miou_union"
"""The mIoU that the paper's tables are in."""


def above(
    better: str, *worse: str, metric: str = "miou_union_unseen", margin: float = 0.0
) -> tuple[Comparison, ...]:
    """That one cell is better than each of some others, or no more than a margin worse."""
    return tuple(
        Comparison(better=better, worse=one, metric=metric, margin=margin) for one in worse
    )
