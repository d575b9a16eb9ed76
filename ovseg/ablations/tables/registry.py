"""The tables of `ovseg ablate` by name.

    ovseg ablate
    ovseg ablate ensemble --preset storybook --seeds 3

Tables are defined in the module of their subject and listed here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ovseg.ablations.cells import Table
from ovseg.ablations.tables import class_texts as texts
from ovseg.ablations.tables import image_prompts as prompts
from ovseg.ablations.tables import scoring, training
from ovseg.errors import OvsegError

TABLES: dict[str, Table] = {
    "source": training.SOURCES,
    "ft-mpt": training.PROMPTS,
    "ensemble": scoring.ENSEMBLE,
    "order": training.ORDER,
    "depth": training.DEPTH,
    "visual-prompts": prompts.VISUAL,
    "pixel-prompts": prompts.PIXELS,
    "captions": training.CAPTIONS,
    "seen-unseen": training.SEEN,
    "crops": scoring.CROPS,
    "prompts": texts.TEXTS,
    "proposals": scoring.PROPOSALS,
    "rounds": training.ROUNDS,
    "systems": scoring.COMPARED,
}
"""The tables by name, in the order of the report."""


def chosen_tables(names: Sequence[str]) -> dict[str, Table]:
    """Return the tables of these names; all for the name `all`.

    Raises:
        OvsegError: for an unknown table.
    """
    if list(names) == ["all"]:
        return dict(TABLES)
    for name in names:
        if name not in TABLES:
            raise OvsegError(
                f"unknown ablation {name!r}: choose one of {', '.join(TABLES)}, or all"
            )
    return {name: TABLES[name] for name in dict.fromkeys(names)}
