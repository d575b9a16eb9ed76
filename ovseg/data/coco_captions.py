"""Captions as COCO publishes them: one JSON with the lists `images` and `annotations`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ovseg.data.captioned import CaptionedImage, is_unicode, usable_text
from ovseg.errors import OvsegError
from ovseg.locations import Location

INT64 = 2**63
_PARTS = ("images", "annotations")


def read_coco(path: Location, left_out: Counter[str]) -> Iterator[CaptionedImage]:
    """Read a COCO captions JSON.

    Args:
        path: the file.
        left_out: gets `no_id`, `duplicate_image_id`, `duplicate_caption_id`,
            `caption_without_image`, `no_text` and `undecodable_text`.

    Raises:
        OvsegError: if it is no JSON, or no COCO captions file.
    """
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # JSON or its UTF-8 is broken
        raise OvsegError(
            f"{path}: not a whole JSON file ({error}); is the download complete? fetch it again,"
            " or name another images.captions_format"
        ) from error
    parts = [document.get(key) if isinstance(document, dict) else None for key in _PARTS]
    if not all(isinstance(part, list) for part in parts):
        raise OvsegError(
            f"{path}: no COCO captions file, it lacks the lists 'images' and 'annotations';"
            " give images.captions a file such as captions_val2017.json"
        )
    names = _file_names(parts[0] or [], left_out)
    captions = _captions(parts[1] or [], names, left_out)
    for image_id, name in names.items():
        yield CaptionedImage(image_id, name, tuple(sorted(captions.get(image_id, ()))))


def _id(entry: Any, key: str) -> int | None:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -INT64 <= value < INT64 else None


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
            names[image_id] = name if isinstance(name, str) and is_unicode(name) else ""
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
        elif caption_id in seen:
            left_out["duplicate_caption_id"] += 1
        elif image_id not in names:
            left_out["caption_without_image"] += 1
        elif (text := usable_text(entry.get("caption"), left_out)) is not None:
            seen.add(caption_id)
            captions.setdefault(image_id, []).append((caption_id, text))
    return captions
