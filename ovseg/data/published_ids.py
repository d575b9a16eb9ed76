"""The ids that data sets give their images, read from file names: one image under one id."""

from __future__ import annotations

import re

_IDS = {
    # 000000000139.jpg of 2017, COCO_val2014_000000000139.jpg of 2014: the same photograph
    "coco": re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(?P<id>\d{12})"),
    # 2007_000033.jpg of VOC, and of Context, whose images are VOC's
    "pascal": re.compile(r"(?P<id>20\d\d_\d{6})"),
}
_FAMILIES = {"coco-": "coco", "voc-": "pascal", "context-": "pascal"}


def family(benchmark: str) -> str | None:
    """Whose ids the images of a benchmark bear, by its name; None where they mean nothing."""
    return next((name for start, name in _FAMILIES.items() if benchmark.startswith(start)), None)


def published_id(file_name: str, family: str) -> str | None:
    """The id in a file name.

    Args:
        file_name: a path, or the name of a tar's member.
        family: `coco` or `pascal`.
    """
    stem = re.split(r"[/\\#]", file_name)[-1].partition(".")[0]
    match = _IDS[family].fullmatch(stem)
    return match["id"] if match else None
