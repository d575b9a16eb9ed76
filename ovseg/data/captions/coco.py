"""Captions in COCO's format: one JSON file with the lists `images` and `annotations`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ovseg.data.captions.captioned_image import CaptionedImage, is_file_name, usable_text
from ovseg.errors import OvsegError
from ovseg.files.json_files import read_json
from ovseg.files.locations import Location

INT64 = 2**63
_PARTS = ("images", "annotations")
_ADVICE = (
    "fetch it again if the download was not complete; if it is JSON lines, set"
    " data.captions_format to jsonl"
)


def read_coco(path: Location, left_out: Counter[str]) -> Iterator[CaptionedImage]:
    """Read a COCO captions JSON.

    Args:
        path: the file.
        left_out: counts `no_id`, `duplicate_image_id`, `duplicate_caption_id`,
            `caption_without_image`, and what `usable_text` counts.

    Raises:
        OvsegError: it is not JSON, or not a COCO captions file.
    """
    document = read_json(path, advice=_ADVICE, lenient=True)
    if isinstance(document, list):
        raise OvsegError(
            f"{path} is a list, not a COCO captions file: write an object with a file name and a"
            " caption on each line, as JSON lines (.jsonl)"
        )
    parts = [document.get(key) if isinstance(document, dict) else None for key in _PARTS]
    if not all(isinstance(part, list) for part in parts):
        raise OvsegError(
            f"{path} is not a COCO captions file, the lists 'images' and 'annotations' are missing;"
            " set data.captions to a file such as captions_val2017.json"
        )
    images = parts[0] or []
    names = _file_names(images, left_out)
    if images and not names:
        first = images[0].get("id") if isinstance(images[0], dict) else None
        raise OvsegError(
            f"{path}: no image has a 64-bit whole number as its id, the first has {first!a:.40};"
            " number them, or write file names and captions as JSON lines (.jsonl), which need no"
            " ids"
        )
    annotations = parts[1] or []
    if annotations and not any(isinstance(e, dict) and "caption" in e for e in annotations):
        raise OvsegError(
            f"{path}: none of its {len(annotations)} annotations has a caption, they are for"
            " another task; set data.captions to a file such as captions_val2017.json"
        )
    captions = _captions(annotations, names, left_out)
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
            names[image_id] = name if isinstance(name, str) and is_file_name(name) else ""
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
