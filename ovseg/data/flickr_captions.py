"""Captions as Flickr8k and Flickr30k publish them: lines of `10092795.jpg#0<TAB>a caption`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from ovseg.data.caption_files import text_lines
from ovseg.data.captioned import CaptionedImage, decoded, numbered
from ovseg.errors import OvsegError
from ovseg.locations import Location

_LINE = re.compile(r"(?P<name>[^\t]*)#\d+\t(?P<text>.*)", re.DOTALL)


def read_flickr(path: Location, left_out: Counter[str]) -> Iterable[CaptionedImage]:
    """Read a token file; images and captions are numbered by their lines.

    Args:
        path: the file.
        left_out: gets what `numbered` counts, and `bad_row` for lines of another form.

    Raises:
        OvsegError: if no line of it has that form.
    """
    return numbered(_rows(path, left_out), left_out)


def _rows(path: Location, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    found = False
    for line in text_lines(path, left_out):
        text = decoded(line).rstrip("\r\n")
        if not text.strip():
            continue
        if match := _LINE.fullmatch(text):
            found = True
            yield match["name"], match["text"]
        else:
            left_out["bad_row"] += 1
    if not found:
        raise OvsegError(
            f"{path}: no line of it is NAME.jpg#NUMBER<TAB>CAPTION; set images.captions_format to"
            " what it is, csv or tsv, say"
        )
