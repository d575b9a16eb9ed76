"""The output of img2dataset: per shard, a Parquet file with the status of its rows, and its images.

    00000.parquet  00000.tar  ...        --output_format webdataset
    00000.parquet  00000/000000000.jpg   --output_format files

Its keys become the ids of the images and of their captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from ovseg.data.captions.captioned_image import CaptionedImage, usable_text
from ovseg.data.captions.files import refuse_other_kinds
from ovseg.data.captions.parquet import parquet_values
from ovseg.data.captions.webdataset import MEMBER_ENDINGS
from ovseg.errors import OvsegError
from ovseg.files.archives import ENDING, index, member_name
from ovseg.files.locations import Location, entries, reaching, reason

COLUMNS = ("key", "status", "caption")
METADATA = ".parquet"
_INT64 = 2**63


def read_img2dataset(path: Location, left_out: Counter[str]) -> Iterator[CaptionedImage]:
    """Read a folder that img2dataset wrote.

    Args:
        path: the folder; file names are relative to it.
        left_out: counts `failed_to_download`, `failed_to_resize`, `other_status`, `no_id`,
            `duplicate_image_id`, and what `usable_text` counts.

    Raises:
        OvsegError: it is not such a folder, or a shard's metadata or images are missing.
    """
    names = [entry.name for entry in entries(path) if entry.name.endswith(METADATA)]
    if not path.is_dir() or not names:
        raise OvsegError(
            f"{path} is not a folder of img2dataset: it has no {METADATA} file of a shard"
        )
    seen: set[int] = set()
    for name in names:
        shard = name.removesuffix(METADATA)
        images = _images(path, shard)
        for key, status, caption in parquet_values(path / name, _columns(path / name)):
            if status != "success":
                known = status in ("failed_to_download", "failed_to_resize")
                left_out[status if known else "other_status"] += 1
                continue
            image_id = _id(key)
            if image_id is None:
                left_out["no_id"] += 1
            elif image_id in seen:
                left_out["duplicate_image_id"] += 1
            else:
                seen.add(image_id)
                text = usable_text(caption, left_out)
                captions = () if text is None else ((image_id, text),)
                # a key without a file stays; its row will say that the file is missing
                file_name = images.get(key, f"{shard}/{key}")
                yield CaptionedImage(image_id, file_name, captions)


def _columns(path: Location) -> Callable[[Sequence[str]], Sequence[str]]:
    def choose(names: Sequence[str]) -> Sequence[str]:
        if missing := [column for column in COLUMNS if column not in names]:
            raise OvsegError(
                f"{path} has no {', '.join(missing)} of img2dataset's metadata: was it run with"
                " --caption_col? or set another data.captions_format"
            )
        return COLUMNS

    return choose


def _id(key: object) -> int | None:
    if not isinstance(key, str) or not (key.isascii() and key.isdecimal()):
        return None
    return value if (value := int(key[:40])) < _INT64 else None


def _images(path: Location, shard: str) -> dict[str, str]:
    """Map each key of a shard to its file name, relative to the folder."""
    try:
        with reaching(path):
            if (path / f"{shard}{ENDING}").is_file():
                archive = f"{shard}{ENDING}"
                files = {name: member_name(archive, name) for name in index(path / archive)}
            elif (path / shard).is_dir():
                files = {e.name: f"{shard}/{e.name}" for e in entries(path / shard)}
            else:
                raise OvsegError(
                    f"{path}: shard {shard} has neither {shard}{ENDING} nor a folder {shard} of"
                    " images; is the download complete? other output formats are not read"
                )
    except OSError as error:
        with suppress(OSError):
            refuse_other_kinds(path / f"{shard}{ENDING}", "webdataset")
        raise OvsegError(f"{path / shard}: {reason(error)}; is the download complete?") from error
    split = ((name.rpartition("/")[2].rpartition("."), place) for name, place in files.items())
    return {stem: place for (stem, _, end), place in split if end.lower() in MEMBER_ENDINGS}
