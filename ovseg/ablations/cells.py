"""The parts of an ablation: a table of cells, its claims, and published figures.

A cell is a set of changes to a preset, by the dotted names of `ovseg settings`, and the phases it
trains. The tables are in `ovseg.ablations.tables.registry`.
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
        title: its displayed name.
        settings: its changes to the preset, by dotted name.
        trains: its training phases in order, each as settings of `FinetuneConfig` that override
            the preset's phase of that kind; empty for the original CLIP.
        repeated: whether it runs with every seed, not only with seed 0.
        presets: the presets it applies to; defaults to all.
        skipped: why other presets do not have it, if a reader would expect it.
    """

    title: str
    settings: Settings = field(default_factory=dict)
    trains: tuple[Settings, ...] = ()
    repeated: bool = False
    presets: tuple[str, ...] = ()
    skipped: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """The paper's figures on photographs: not comparable with those of the storybook.

    Attributes:
        source: place in the paper.
        headings: of the columns; the first is a name.
        rows: mIoU in %.
    """

    source: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A named sweep.

    Attributes:
        title: its subject.
        question: the question it answers.
        cells: by slug, in display order.
        reference: the cell that gains are measured against.
        expect: expected results of the preset `paper` on real data, from the paper.
        cost: the cost of that, in addition to mining once.
        published: the paper's figures, if any.
        claims: the claims to judge.
        note: further remarks for the reader.
        miniature: settings of every cell in the embedded world; a cell's own take precedence.
        skipped: reasons for skipped cells, by title.
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
        """Return the table with only the cells of a preset."""
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
"""The mIoU of the paper's tables."""


def above(
    better: str, *worse: str, metric: str = "miou_union_unseen", margin: float = 0.0
) -> tuple[Comparison, ...]:
    """Claim that one cell is better than each of some others, or at most a margin worse."""
    return tuple(
        Comparison(better=better, worse=one, metric=metric, margin=margin) for one in worse
    )
