"""Captions in webdataset shards: tars of `000000012.jpg` next to `000000012.txt` or `.json`.

The shards are streamed once for their texts; images stay in the tars, named like the members in
`ovseg.files.archives`. The webdataset library's own rule groups members into samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from ovseg.data.captions.captioned_image import CaptionedImage, decoded, identified
from ovseg.data.captions.files import refuse_other_kinds
from ovseg.errors import OvsegError
from ovseg.files.archives import ENDING, member_name, walk
from ovseg.files.json_files import parse_json
from ovseg.files.locations import Location, entries, reason

MEMBER_ENDINGS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif")


def read_webdataset(path: Location, left_out: Counter[str]) -> Iterable[CaptionedImage]:
    """Read a shard, or the shards of a folder sorted by name.

    A sample's captions are in its `.txt`; without one, in `caption` or `captions` of its `.json`.

    Args:
        path: a tar or a folder of tars; file names are relative to the folder.
        left_out: counts what `identified` and `walk` count, `sample_without_image`,
            `sample_without_caption`, `several_images_of_a_sample`, `duplicate_member` and
            `bad_json`.

    Raises:
        OvsegError: the folder has no shard, or one is not a tar.
    """
    return identified(_rows(path, left_out), left_out)


def _rows(path: Location, left_out: Counter[str]) -> Iterator[tuple[str, object]]:
    if path.is_dir():
        names = [entry.name for entry in entries(path) if entry.name.endswith(ENDING)]
        shards = [path / name for name in names]
    else:
        shards = [path]
    if not shards:
        raise OvsegError(f"{path} holds no {ENDING} shard: set data.captions to another path")
    for shard in shards:
        for sample in _samples(shard, left_out):
            yield from _captions(shard.name, sample, left_out)


def _samples(shard: Location, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    from webdataset.tariterators import group_by_keys  # the import takes a third of a second

    def is_text(name: str) -> bool:
        return name.rpartition("/")[2].partition(".")[2].lower() in ("txt", "json")

    def members() -> Iterator[dict[str, Any]]:
        for member in walk(shard, read=is_text, left_out=left_out):
            data = member.name if member.content is None else member.content
            yield {"fname": member.name, "data": data, "__url__": shard.name}

    def count_duplicate(error: Exception) -> bool:
        left_out["duplicate_member"] += 1
        return isinstance(error, ValueError)  # read the rest of the shard

    try:
        yield from group_by_keys(members(), handler=count_duplicate)
    except OSError as error:
        with suppress(OSError):
            refuse_other_kinds(shard, "webdataset")
        raise OvsegError(
            f"{shard}: {reason(error)}; is the download complete? shards are uncompressed tars"
        ) from error


def _captions(
    shard: str, sample: dict[str, Any], left_out: Counter[str]
) -> Iterator[tuple[str, object]]:
    images = [sample[suffix] for suffix in MEMBER_ENDINGS if suffix in sample]
    if not images:
        left_out["sample_without_image"] += 1
        return
    if len(images) > 1:
        left_out["several_images_of_a_sample"] += 1
    texts: list[object] = []
    if "txt" in sample:
        texts = [decoded(sample["txt"])]
    elif "json" in sample:
        texts = _of_json(sample["json"], left_out)
    if not texts:
        left_out["sample_without_caption"] += 1
        texts = [None]
    for text in texts:
        yield member_name(shard, images[0]), text


def _of_json(content: bytes, left_out: Counter[str]) -> list[object]:
    try:
        entry = parse_json(content, lenient=True)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        left_out["bad_json"] += 1
        return []
    captions = entry.get("captions", []) if entry.get("caption") is None else entry["caption"]
    return list(captions) if isinstance(captions, list) else [captions]
