"""Captions by the format they are published in, one of `ovseg.config.registry.FORMATS`.

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
"""The value of `data.captions_format` that leaves the format to the name of the captions."""
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
"""The format of a file by the ending of its name, where the setting is `auto`."""


@dataclass(frozen=True)
class CaptionsFile:
    """Captions, read and checked.

    Attributes:
        format: a key of `FORMATS`.
        images: sorted by image id, ids unique.
        left_out: how many entries of the file could not be used, by reason.
        sha256: of all this as it was read, 64 hex digits; how the file spells it is no part of it.
    """

    format: str
    images: tuple[CaptionedImage, ...]
    left_out: dict[str, int]
    sha256: str

    def advice(self) -> str:
        """What to do where nothing of the file can be used, by what was left out of it most."""
        if not self.left_out:
            return "give data.captions another file"
        reason = max(self.left_out, key=lambda reason: self.left_out[reason])
        of_format = _ADVICE.get(f"{self.format} {reason}")
        if of_format is None and isinstance(FORMATS[self.format], TableReader):
            of_format = _ADVICE.get(f"table {reason}")
        return of_format or _ADVICE.get(reason, "give data.captions another file")


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
    "coco no_id": "the image_id of an annotation is the whole number that is an image's id",
    "coco caption_without_image": "the image_id of an annotation is the whole number that is an"
    " image's id",
    "img2dataset no_text": "the column caption is empty: name that of the source by --caption_col",
    "img2dataset no_id": "keys are the numbers img2dataset gives; it wrote another folder",
    "failed_to_download": "nothing of it was downloaded: run img2dataset again",
    "failed_to_resize": "none of its images could be resized: run img2dataset again",
    "sample_without_image": "next to each text lies an image of the same name",
    "sample_without_caption": "next to each image lies a .txt, or a .json with caption or captions",
    "bad_json": "the .json next to each image is a JSON object",
    "archive_cut_short": "is the download complete?",
    "sparse_member": "write the tars without sparse members (tar without --sparse)",
}
"""By reason, or by format and reason; `table` is each format that has columns."""


def read_captions(
    path: Location,
    format: str = AUTO,
    *,
    path_column: str | None = None,
    caption_column: str | None = None,
) -> CaptionsFile:
    """Read captions; once a process for as long as the file or folder stays as it is.

    Args:
        path: a file, or a folder where the format has several files, side by side.
        format: a key of `FORMATS`, or `auto` for the one that `guess` finds.
        path_column: of a table the column of file names, where its name does not say so.
        caption_column: of a table the column of captions.

    Raises:
        OvsegError: if it is missing, cannot be read, or is not of that format.
    """
    if format != AUTO:
        check_name(FORMATS, format, setting="data.captions_format")
    try:
        listed = tuple(entries(path))
    except OSError as error:
        raise OvsegError(
            f"{path}: no captions file ({reason(error)}); give data.captions another path"
        ) from error
    name = guess(path, listed) if format == AUTO else format
    return _read(path, name, path_column, caption_column, listed)


def guess(path: Location, listed: tuple[Entry, ...]) -> str:
    """The format of captions: a file's by `ENDINGS`, a folder's by what lies in it.

    A folder with tars is `webdataset`, with Parquet beside each of them or beside folders of the
    same names `img2dataset`, with Parquet files alone `parquet`.

    Raises:
        OvsegError: if neither says it.
    """
    names = {entry.name for entry in listed}
    if names == {path.name} and not path.is_dir():
        fitting = [ending for ending in ENDINGS if path.name.lower().endswith(ending)]
        if fitting:
            return ENDINGS[max(fitting, key=len)]
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
        f"{path}: its name does not say how captions are written in it; set"
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
    # what is listed is part of the key only: an edited file is read again
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
            found = sorted(reader(path, left_out), key=lambda image: image.image_id)
    except OSError as error:
        raise OvsegError(
            f"{path}: cannot be read ({reason(error)}); give data.captions another path"
        ) from error
    if len({image.image_id for image in found}) != len(found):
        raise ValueError(f"the reader of {format!r} gives two images one id")
    counted = dict(sorted(left_out.items()))
    return CaptionsFile(format, tuple(found), counted, _sha256(found, counted))


def _sha256(images: list[CaptionedImage], left_out: dict[str, int]) -> str:
    digest = hashlib.sha256(json.dumps(left_out).encode())
    for image in images:
        digest.update(json.dumps([image.image_id, image.file_name, image.captions]).encode())
    return digest.hexdigest()


def read_labelled(path: Location, left_out: Counter[str]) -> Iterator[CaptionedImage]:
    """Images without captions, with the ids and order of the labelled set.

    Args:
        path: folder of the labelled set, which its images lie in; file names are relative to it.
        left_out: gets `outside_folder`, of images that lie elsewhere.

    Raises:
        OvsegError: if the folder is no labelled set, or lies behind a URL.
    """
    if not isinstance(path, Path):
        raise OvsegError(f"{path}: a labelled set is read from a local folder; copy it there")
    for sample in load_benchmark(path.resolve().name, path).samples:
        if sample.image.is_relative_to(path):
            file_name = sample.image.relative_to(path).as_posix()
            yield CaptionedImage(sample.image_id, file_name, ())
        else:
            left_out["outside_folder"] += 1
