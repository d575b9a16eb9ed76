"""Reading of captions in any of the formats of `ovseg.config.registry.FORMATS`.

read_captions(Path("captions_val2017.json")).images
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ovseg.config.registry import FORMATS, check_name
from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.captions.captioned_image import MAX_CAPTION, CaptionedImage
from ovseg.data.captions.files import refuse_other_kinds
from ovseg.data.captions.tables import TableReader
from ovseg.errors import OvsegError
from ovseg.files.archives import ENDING
from ovseg.files.locations import Entry, Location, entries, reaching, reason

AUTO = "auto"
"""The value of `data.captions_format` that derives the format from the name of the captions."""
ENDINGS = {
    ".json": "coco",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ENDING: "webdataset",
    ".token": "flickr",
    ".token.txt": "flickr",
}
"""Ending of a file's name to its format, if the setting is `auto`."""


@dataclass(frozen=True)
class CaptionsFile:
    """Checked captions.

    Attributes:
        format: a key of `FORMATS`.
        images: sorted by image id, ids unique.
        left_out: number of unusable entries by reason.
        sha256: digest of the parsed content, 64 hex digits, independent of the file's formatting.
    """

    format: str
    images: tuple[CaptionedImage, ...]
    left_out: dict[str, int]
    sha256: str

    def advice(self) -> str:
        """Return what to do if nothing in the file is usable, by the most common reason."""
        if not self.left_out:
            return "set data.captions to another file"
        reason = max(self.left_out, key=lambda reason: self.left_out[reason])
        of_format = _ADVICE.get(f"{self.format} {reason}")
        if of_format is None and isinstance(FORMATS[self.format], TableReader):
            of_format = _ADVICE.get(f"table {reason}")
        return of_format or _ADVICE.get(reason, "set data.captions to another file")


_ADVICE = {
    "undecodable_text": "its texts are not UTF-8 (they may be Windows-1252): save it as UTF-8",
    "text_too_long": f"a caption has at most {MAX_CAPTION:,} characters",
    "no_text": "its captions are empty",
    "table no_text": "its captions are empty, or not text; data.caption_column names another"
    " column",
    "table no_file_name": "its rows name no files; data.path_column names another column",
    "csv bad_row": "its rows have more or fewer fields than its first line",
    "tsv bad_row": "its rows have more or fewer fields than its first line",
    "jsonl bad_row": "each line holds one JSON object",
    "coco no_id": "the image_id of an annotation must be the whole number of an image's id",
    "coco caption_without_image": "the image_id of an annotation must be the whole number of an"
    " image's id",
    "img2dataset no_text": "the column caption is empty: run img2dataset with --caption_col",
    "img2dataset no_id": "keys must be the numbers that img2dataset gives",
    "failed_to_download": "none of its images were downloaded: run img2dataset again",
    "failed_to_resize": "none of its images could be resized: run img2dataset again",
    "sample_without_image": "each text needs an image of the same name next to it",
    "sample_without_caption": "each image needs a .txt next to it, or a .json with caption or"
    " captions",
    "bad_json": "the .json next to each image must be a JSON object",
    "archive_cut_short": "is the download complete?",
    "sparse_member": "write the tars without sparse members (tar without --sparse)",
}
"""Reason, or format and reason, to advice; `table` stands for every format with columns."""


def read_captions(
    path: Location,
    format: str = AUTO,
    *,
    path_column: str | None = None,
    caption_column: str | None = None,
) -> CaptionsFile:
    """Read captions, cached per process until the file or folder changes.

    Args:
        path: a file, or a folder for formats with several files.
        format: a key of `FORMATS`, or `auto` for the one that `guess` returns.
        path_column: a table's column of file names; defaults to one with a usual name.
        caption_column: a table's column of captions; defaults to one with a usual name.

    Raises:
        OvsegError: the captions are missing, cannot be read, or are not in that format.
    """
    if format != AUTO:
        check_name(FORMATS, format, setting="data.captions_format")
    try:
        listed = tuple(entries(path))
    except OSError as error:
        raise OvsegError(
            f"{path}: no captions file ({reason(error)}); set data.captions to another path"
        ) from error
    name = guess(path, listed) if format == AUTO else format
    return _read(path, name, path_column, caption_column, listed)


def guess(path: Location, listed: tuple[Entry, ...]) -> str:
    """Guess the format of captions: of a file by `ENDINGS`, of a folder by its files.

    A folder with tars is `webdataset`; with Parquet files next to tars or folders of the same
    names, `img2dataset`; with Parquet files alone, `parquet`.

    Raises:
        OvsegError: the name and the files do not determine the format.
    """
    names = {entry.name for entry in listed}
    if names == {path.name} and not path.is_dir():
        matches = [ending for ending in ENDINGS if path.name.lower().endswith(ending)]
        if matches:
            return ENDINGS[max(matches, key=len)]
    else:
        tars = {name.removesuffix(ENDING) for name in names if name.endswith(ENDING)}
        tables = {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}
        if tables and (tables & tars or any((path / stem).is_dir() for stem in tables)):
            return "img2dataset"
        if tars or tables:
            return "webdataset" if tars else "parquet"
    if not path.is_dir():
        refuse_other_kinds(path, "")
    raise OvsegError(
        f"{path}: its name does not tell the format of the captions; set"
        f" data.captions_format to one of {', '.join(FORMATS)}"
    )


@lru_cache(maxsize=2)
def _read(
    path: Location,
    format: str,
    path_column: str | None,
    caption_column: str | None,
    listed: tuple[Entry, ...],
) -> CaptionsFile:
    # listed: cache key, so that an edited file is read again
    reader = FORMATS[format]
    if path_column or caption_column:
        if not isinstance(reader, TableReader):
            raise OvsegError(
                f"data.captions_format {format} has no columns: leave data.path_column and"
                " data.caption_column empty"
            )
        reader = reader.of_columns(path_column, caption_column)
    left_out: Counter[str] = Counter()
    try:
        with reaching(path):
            if not path.is_dir():
                refuse_other_kinds(path, format)
            images = sorted(reader(path, left_out), key=lambda image: image.image_id)
    except OSError as error:
        raise OvsegError(
            f"{path}: cannot be read ({reason(error)}); set data.captions to another path"
        ) from error
    if len({image.image_id for image in images}) != len(images):
        raise ValueError(f"the reader of {format!r} gives two images the same id")
    counts = dict(sorted(left_out.items()))
    return CaptionsFile(format, tuple(images), counts, _sha256(images, counts))


def _sha256(images: list[CaptionedImage], left_out: dict[str, int]) -> str:
    digest = hashlib.sha256(json.dumps(left_out).encode())
    for image in images:
        digest.update(json.dumps([image.image_id, image.file_name, image.captions]).encode())
    return digest.hexdigest()


def read_labelled(path: Location, left_out: Counter[str]) -> Iterator[CaptionedImage]:
    """Yield images without captions, with the ids and order of the labeled set.

    Args:
        path: folder of the labeled set and its images; file names are relative to it.
        left_out: counts `outside_folder`, images outside this folder.

    Raises:
        OvsegError: the folder is not a labeled set, or is a URL.
    """
    if not isinstance(path, Path):
        raise OvsegError(f"{path}: a labeled set must be in a local folder; copy it there")
    for sample in load_benchmark(path.resolve().name, path).samples:
        if sample.image.is_relative_to(path):
            file_name = sample.image.relative_to(path).as_posix()
            yield CaptionedImage(sample.image_id, file_name, ())
        else:
            left_out["outside_folder"] += 1
