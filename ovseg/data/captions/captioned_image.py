"""An image and its captions: what every reader of captions returns.

Captions files are untrusted. Unusable entries are left out and counted by reason. Entries that the
images table can show with a reason (a file name that leads out of the image folder, an image
without captions) stay.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.locations import Location

MAX_CAPTION = 65_536
"""Most characters; a longer text is not a caption, and parsing it would take minutes."""
MAX_NAME = 4_096
"""Most characters of a file name; no file system allows a longer one."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/:]|data:[^,]*,")  # of any file system, or inline data


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions in order of their ids.

    Attributes:
        image_id: the source's id, within 64 bits.
        file_name: relative to the image folder, as published; empty if missing; for a member of a
            shard, see `ovseg.files.archives.member_name`.
        captions: (caption_id, text) of each usable caption, as published but with HTML entities
            decoded.
    """

    image_id: int
    file_name: str
    captions: tuple[tuple[int, str], ...]


Reader = Callable[[Location, Counter[str]], Iterable[CaptionedImage]]
"""Reads a captions file or folder and counts its unusable entries by reason.

The ids of the images are unique. It raises `OvsegError` if the file is not in the right format.
"""


def identified(
    rows: Iterable[tuple[object, object]], left_out: Counter[str]
) -> Iterator[CaptionedImage]:
    """Give ids to the images and captions of a source without ids, one row per caption.

    An id follows from what it names: an image's from its file name, a caption's from the file name,
    the text, and how often that image had the text before. Rows may therefore come, go and change
    places, and all others keep their ids.

    Args:
        rows: (file name, text), unchecked.
        left_out: counts `no_file_name`, including names of over `MAX_NAME` characters, and what
            `usable_text` counts.

    Raises:
        OvsegError: two images or two captions have one id, by chance.
    """
    captions: dict[str, Counter[str]] = {}
    for file_name, text in rows:
        if not isinstance(file_name, str) or not is_file_name(file_name):
            left_out["no_file_name"] += 1
            continue
        own = captions.setdefault(file_name, Counter())
        if (usable := usable_text(text, left_out)) is not None:
            own[usable] += 1
    names: dict[int, str] = {}
    owners: dict[int, str] = {}
    for file_name, texts in captions.items():
        own_ids = [
            (_new_id(owners, file_name, "captions", file_name, text, time), text)
            for text, times in texts.items()
            for time in range(times)
        ]
        image_id = _new_id(names, file_name, "images", file_name)
        yield CaptionedImage(image_id, file_name, tuple(sorted(own_ids)))


def content_id(*parts: str | int) -> int:
    """Return 63 bits of the digest of some values, an id that follows from what it names."""
    return int(digest_json(list(parts))[:16], 16) >> 1


def _new_id(known: dict[int, str], file_name: str, what: str, *parts: str | int) -> int:
    """Return the id of an image or a caption, and keep it with its file name."""
    number = content_id(*parts)
    if number in known:
        raise OvsegError(
            f"two {what}, of {known[number]!r:.200} and {file_name!r:.200}, have the id {number} by"
            " chance: rename one of the files"
        )
    known[number] = file_name
    return number


def decoded(text: bytes) -> str:
    """Decode UTF-8 without a leading byte order mark.

    Bytes that are not UTF-8 become lone surrogates, which `is_unicode` rejects.
    """
    return text.decode("utf-8", "surrogateescape").removeprefix("\ufeff")


def usable_text(text: object, left_out: Counter[str]) -> str | None:
    """Return a caption's text with its HTML entities decoded.

    Nothing changes the text later, so that positions of nouns refer to the caption in the tables.

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
_ESCAPED = 3  # times: crawlers often escape text that was already escaped


def _without_entities(text: str) -> str:
    for _ in range(_ESCAPED):
        if (plain := _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)) == text:
            break
        text = plain
    return text


def is_file_name(name: str) -> bool:
    """Whether a table can hold the name and a file can have it."""
    return 0 < len(name) <= MAX_NAME and is_unicode(name)


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogates, which JSON can spell but tables cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def inside(file_name: str) -> bool:
    """Whether a published file name stays inside the folder it is relative to.

    Only the text counts, so that a user's links in the folder may lead elsewhere. A URL is never
    inside, even if the folder is a URL.
    """
    name = PurePosixPath(file_name.replace("\\", "/"))
    drive = len(file_name) > 1 and file_name[1] == ":"
    out = name.is_absolute() or ".." in name.parts or drive or "\0" in file_name
    return not (out or _URL.match(file_name))
