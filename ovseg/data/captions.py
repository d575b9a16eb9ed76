"""Captions by the format they are published in: `FORMATS` says which there are.

read_captions(Path("captions_val2017.json"), "coco").images
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ovseg.data.captioned import CaptionedImage, Reader
from ovseg.data.coco_captions import read_coco
from ovseg.data.labelled_images import read_labelled
from ovseg.errors import OvsegError
from ovseg.registry import chosen
from ovseg.storage import file_sha256

FORMATS: dict[str, Reader] = {
    "coco": read_coco,
    "labelled": read_labelled,
}
"""How a captions file or folder is read, by the value of `images.captions_format`."""

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class CaptionsFile:
    """A captions file, read and checked.

    Attributes:
        images: sorted by image id, ids unique.
        left_out: how many entries of the file could not be used, by reason.
        sha256: of the file's bytes (or a folder's files), 64 hex digits.
    """

    images: tuple[CaptionedImage, ...]
    left_out: dict[str, int]
    sha256: str


def read_captions(path: Path, format: str = "coco") -> CaptionsFile:
    """Read captions; once a process for as long as the file or folder stays as it is.

    Args:
        path: a file, or a folder where the format has several.
        format: a key of `FORMATS`.

    Raises:
        OvsegError: if it is missing, cannot be read, or is not of that format.
    """
    chosen(FORMATS, format, setting="images.captions_format")
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = [(str(file), file.stat()) for file in files]
    except OSError as error:
        raise OvsegError(
            f"{path}: no captions file ({error.strerror}); give images.captions another path"
        ) from error
    stamp = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return _read(path.resolve(), format, stamp)


@lru_cache(maxsize=2)
def _read(path: Path, format: str, stamp: Stamp) -> CaptionsFile:
    # the stamp is part of the key only: an edited file is read again
    left_out: Counter[str] = Counter()
    try:
        found = sorted(FORMATS[format](path, left_out), key=lambda image: image.image_id)
        sha256 = file_sha256(path)
    except OSError as error:
        raise OvsegError(
            f"{path}: cannot be read ({error.strerror}); give images.captions another path"
        ) from error
    if len({image.image_id for image in found}) != len(found):
        raise ValueError(f"the reader of {format!r} gives two images one id")
    return CaptionsFile(tuple(found), dict(sorted(left_out.items())), sha256)
