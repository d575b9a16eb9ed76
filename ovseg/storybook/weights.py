"""Folders of the shipped weights."""

from __future__ import annotations

import re
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
PARSER = WEIGHTS / "parser"
SHIPPED_CLIPS = {
    "storybook": (WEIGHTS / "clip", "clip"),
    "storybook-conv": (WEIGHTS / "conv_clip", "conv-clip"),
}
"""Name of a shipped CLIP to its folder and its name in `flows.pretrain`."""
MASK2FORMER = "storybook-mask2former"
"""Name of the shipped small Mask2Former, trained on split 0's seen categories."""
MASK2FORMER_WEIGHTS = WEIGHTS / "mask2former"


def storybook_split(name: str) -> int | None:
    """Return the category split of a compact MaskFormer's name; None for any other name."""
    shipped = re.fullmatch(r"storybook(?:-(\d+))?", name)
    return int(shipped[1] or 0) if shipped else None


def storybook_weights(split: int) -> Path:
    """Return the folder of the compact MaskFormer trained on a split's seen categories only.

    Args:
        split: as in `ovseg.storybook.categories.split`; 0 is the network named `storybook`.
    """
    return WEIGHTS / "maskformer" / f"split-{split}"


def shipped_maskformer(name: str) -> Path | None:
    """Return the folder of a shipped network; None for any other name."""
    split = storybook_split(name)
    if split is not None:
        return storybook_weights(split)
    return MASK2FORMER_WEIGHTS if name == MASK2FORMER else None
