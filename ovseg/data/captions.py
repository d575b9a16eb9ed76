"""Captions as COCO publishes them: one JSON with `images` and `annotations`.

The file comes from outside, so nothing in it is trusted: what cannot be used is left out and
counted under a reason, what the images' own table can show (a file name that leads out of the
image folder, an image nobody captioned) stays and is judged there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from ovseg.errors import OvsegError

INT64 = 2**63


@dataclass(frozen=True)
class CaptionedImage:
    """One image and its captions in order of their ids.

    Attributes:
        image_id: the source's id.
        file_name: relative to the image folder, as published; empty where there is none.
        captions: (caption_id, text as published) of each usable caption.
    """

    image_id: int
    file_name: str
    captions: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class CaptionsFile:
    """A captions file, read and checked.

    Attributes:
        images: sorted by image id, ids unique.
        left_out: how many entries of the file could not be used, by reason: `no_id`,
            `duplicate_image_id`, `duplicate_caption_id`, `caption_without_image`, `no_text`,
            `undecodable_text`.
        sha256: of the file's bytes, 64 hex digits.
    """

    images: tuple[CaptionedImage, ...]
    left_out: dict[str, int]
    sha256: str


def read_captions(path: Path) -> CaptionsFile:
    """Read a COCO captions JSON; parsed once a process for as long as the file stays as it is.

    Raises:
        OvsegError: if the file is missing, is no JSON, or is no COCO captions file.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise OvsegError(
            f"{path}: no captions file ({error.strerror}); give images.captions another path"
        ) from error
    return _read(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _read(path: Path, size: int, mtime_ns: int) -> CaptionsFile:
    # size and time are part of the key only: an edited file is read again
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OvsegError(
            f"{path}: cannot be read ({error.strerror}); give images.captions another path"
        ) from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:  # JSON or its UTF-8 is broken
        raise OvsegError(
            f"{path}: not a whole JSON file ({error}); is the download complete? fetch it again"
        ) from error
    parts = [document.get(key) if isinstance(document, dict) else None for key in _PARTS]
    if not all(isinstance(part, list) for part in parts):
        raise OvsegError(
            f"{path}: no COCO captions file, it lacks the lists 'images' and 'annotations';"
            " give images.captions a file such as captions_val2017.json"
        )
    left_out: Counter[str] = Counter()
    names = _file_names(parts[0] or [], left_out)
    captions = _captions(parts[1] or [], names, left_out)
    images = tuple(
        CaptionedImage(image_id, names[image_id], tuple(sorted(captions.get(image_id, ()))))
        for image_id in sorted(names)
    )
    return CaptionsFile(images, dict(sorted(left_out.items())), hashlib.sha256(content).hexdigest())


_PARTS = ("images", "annotations")


def _id(entry: Any, key: str) -> int | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -INT64 <= value < INT64 else None


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON can spell and no table can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file_names(entries: list[Any], left_out: Counter[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for entry in entries:
        image_id = _id(entry, "id")
        if image_id is None:
            left_out["no_id"] += 1
        elif image_id in names:
            left_out["duplicate_image_id"] += 1
        else:
            name = entry.get("file_name")
            names[image_id] = name if isinstance(name, str) and _is_unicode(name) else ""
    return names


def _captions(
    entries: list[Any], names: dict[int, str], left_out: Counter[str]
) -> dict[int, list[tuple[int, str]]]:
    captions: dict[int, list[tuple[int, str]]] = {}
    seen: set[int] = set()
    for entry in entries:
        caption_id, image_id = _id(entry, "id"), _id(entry, "image_id")
        if caption_id is None or image_id is None:
            left_out["no_id"] += 1
            continue
        text = entry.get("caption")
        if caption_id in seen:
            left_out["duplicate_caption_id"] += 1
        elif image_id not in names:
            left_out["caption_without_image"] += 1
        elif not isinstance(text, str) or not text.strip():
            left_out["no_text"] += 1
        elif not _is_unicode(text):
            left_out["undecodable_text"] += 1
        else:
            seen.add(caption_id)
            captions.setdefault(image_id, []).append((caption_id, text))
    return captions


def inside(file_name: str) -> bool:
    """Whether a published file name stays inside the folder it is relative to.

    Judged by its text alone, so that links a person has put into the folder may lead elsewhere.
    """
    name = PurePosixPath(file_name.replace("\\", "/"))
    drive = len(file_name) > 1 and file_name[1] == ":"
    return not (name.is_absolute() or ".." in name.parts or drive or "\0" in file_name)
