"""An image and its captions: what every reader of captions gives, whatever file it reads.

The files come from outside, so nothing in them is trusted: what cannot be used is left out and
counted under a reason, what the images' own table can show (a file name that leads out of the
image folder, an image nobody captioned) stays and is judged there.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ovseg.files.locations import Location

MAX_CAPTION = 65_536
"""Characters; a longer text is not a caption, and parsing it would take minutes."""
MAX_NAME = 4_096
"""Characters of a file name; no file system takes a longer one."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]|data:[^,]*,")  # of any file system, or the file


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions in order of their ids.

    Attributes:
        image_id: the source's id, within 64 bits.
        file_name: relative to the image folder, as published; empty where there is none; of a
            member of a shard as `ovseg.files.archives.member_name` has it.
        captions: (caption_id, text) of each usable caption; as published, but for HTML entities,
            which are decoded.
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
        left_out: gets `no_file_name`, also for one of over `MAX_NAME` characters, and what
            `usable_text` counts.
    """
    captions: dict[str, list[tuple[int, str]]] = {}
    for number, (file_name, text) in enumerate(rows, start=1):
        if not isinstance(file_name, str) or not is_file_name(file_name):
            left_out["no_file_name"] += 1
            continue
        of_image = captions.setdefault(file_name, [])
        if (usable := usable_text(text, left_out)) is not None:
            of_image.append((number, usable))
    for image_id, (file_name, found) in enumerate(captions.items(), start=1):
        yield CaptionedImage(image_id, file_name, tuple(found))


def decoded(text: bytes) -> str:
    """UTF-8 as text, without the byte order mark it may begin with.

    Bytes that are not UTF-8 become lone surrogates, which `is_unicode` refuses.
    """
    return text.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def usable_text(text: object, left_out: Counter[str]) -> str | None:
    """A caption's text with its HTML entities decoded.

    Here and nowhere later, so that the place of a noun is a place in the caption that tables hold.

    Returns:
        The text, or None, counted as `no_text`, `text_too_long` or `undecodable_text`.
    """
    if isinstance(text, str) and len(text) > MAX_CAPTION:
        left_out["text_too_long"] += 1
    elif not isinstance(text, str) or not (text := _without_entities(text)).strip():
        left_out["no_text"] += 1
    elif not is_unicode(text):
        left_out["undecodable_text"] += 1
    else:
        return text
    return None


# With its semicolon only: "salt&pepper" is not an entity, and neither is "&copy" in "?a=1&copy=2".
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_ESCAPED = 3  # times over: what a crawler escapes has often been escaped before


def _without_entities(text: str) -> str:
    for _ in range(_ESCAPED):
        if (plain := _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)) == text:
            break
        text = plain
    return text


def is_file_name(name: str) -> bool:
    """Whether a table can hold it and a file may have it."""
    return 0 < len(name) <= MAX_NAME and is_unicode(name)


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
