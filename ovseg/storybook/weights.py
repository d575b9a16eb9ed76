"""Where the weights that ship lie."""

from __future__ import annotations

import re
from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
PARSER = WEIGHTS / "parser"
SHIPPED_CLIPS = {
    "storybook": (WEIGHTS / "clip", "clip"),
    "storybook-conv": (WEIGHTS / "conv_clip", "conv-clip"),
}
"""Folder of the CLIPs that ship, and what `flows.pretrain` calls them, by name."""
MASK2FORMER = "storybook-mask2former"
"""The name of the small Mask2Former that ships, trained on split 0's seen categories."""
MASK2FORMER_WEIGHTS = WEIGHTS / "mask2former"


def storybook_split(name: str) -> int | None:
    """The split of the categories whose compact MaskFormer a name means, if it means one."""
    shipped = re.fullmatch(r"storybook(?:-(\d+))?", name)
    return int(shipped[1] or 0) if shipped else None


def storybook_weights(split: int) -> Path:
    """Where the compact MaskFormer lies that saw masks of one split's seen categories only.

    Args:
        split: as in `ovseg.storybook.categories.split`; 0 is the network named `storybook`.
    """
    return WEIGHTS / "maskformer" / f"split-{split}"


def shipped_maskformer(name: str) -> Path | None:
    """Return the folder of the network that ships under a name; None for any other name."""
    split = storybook_split(name)
    if split is not None:
        return storybook_weights(split)
    return MASK2FORMER_WEIGHTS if name == MASK2FORMER else None
