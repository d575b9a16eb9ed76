"""The images of a labelled set: a source for ground-truth pairs, which need no captions.

The folder is that of any benchmark that `ovseg.data.benchmarks` reads, under its name: one of
`READERS`, or the name of a prepared folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ovseg.data.benchmarks import load_benchmark
from ovseg.data.captioned import CaptionedImage
from ovseg.errors import OvsegError
from ovseg.locations import Location


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
