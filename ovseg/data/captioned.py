"""An image and its captions: what every reader of captions gives, whatever file it reads.

The files come from outside, so nothing in them is trusted: what cannot be used is left out and
counted under a reason, what the images' own table can show (a file name that leads out of the
image folder, an image nobody captioned) stays and is judged there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ovseg.locations import Location

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]|data:[^,]*,")  # of any file system, or the file


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions in order of their ids.

    Attributes:
        image_id: the source's id, within 64 bits.
        file_name: relative to the image folder, as published; empty where there is none; of a
            member of a shard as `ovseg.archives.member_name` has it.
        captions: (caption_id, text as published) of each usable caption.
    """

    image_id: int
    file_name: str
    captions: tuple[tuple[int, str], ...]


Reader = Callable[[Location, Counter[str]], Iterable[CaptionedImage]]
"""Reads a captions file or folder and counts, by reason, what of it cannot be used.

No two of the images have one id. It raises `OvsegError` where the file is not what it should be.
"""


def numbered(
    rows: Iterable[tuple[object, object]], left_out: Counter[str]
) -> Iterator[CaptionedImage]:
    """Images and captions of a source that has no ids: a row a caption.

    Images are numbered from 1 by their first row and captions by their rows, so that rows added at
    the end change no id.

    Args:
        rows: (file name, text), as found.
        left_out: gets `no_file_name`, `no_text` and `undecodable_text`.
    """
    captions: dict[str, list[tuple[int, str]]] = {}
    for number, (file_name, text) in enumerate(rows, start=1):
        if not isinstance(file_name, str) or not file_name or not is_unicode(file_name):
            left_out["no_file_name"] += 1
            continue
        of_image = captions.setdefault(file_name, [])
        if (usable := usable_text(text, left_out)) is not None:
            of_image.append((number, usable))
    for image_id, (file_name, found) in enumerate(captions.items(), start=1):
        yield CaptionedImage(image_id, file_name, tuple(found))


def decoded(text: bytes) -> str:
    """UTF-8 as text; bytes that are none become lone surrogates, which `is_unicode` refuses."""
    return text.decode("utf-8", "surrogateescape")


def usable_text(text: object, left_out: Counter[str]) -> str | None:
    """A caption's text as published, or None, counted as `no_text` or `undecodable_text`."""
    if not isinstance(text, str) or not text.strip():
        left_out["no_text"] += 1
    elif not is_unicode(text):
        left_out["undecodable_text"] += 1
    else:
        return text
    return None


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can spell and no table can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def inside(file_name: str) -> bool:
    """Whether a published file name stays inside the folder it is relative to.

    Judged by its text alone, so that links a person has put into the folder may lead elsewhere. A
    URL never does, whatever the folder's is.
    """
    name = PurePosixPath(file_name.replace("\\", "/"))
    drive = len(file_name) > 1 and file_name[1] == ":"
    out = name.is_absolute() or ".." in name.parts or drive or "\0" in file_name
    return not (out or _URL.match(file_name))
