"""Label maps, class lists and annotations: indices within bounds, or one line that says why not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io
from hypothesis import strategies as st
from PIL import Image

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.data.benchmarks.label_maps import LabelError, look_up, read_colors, read_indices
from ovseg.data.benchmarks.layouts import coco_panoptic, read_list
from ovseg.data.benchmarks.matlab_maps import read_matlab
from ovseg.errors import OvsegError
from ovseg.evaluation.pair_truth import read_panoptic
from tests.fuzz.harness import fuzzed, mutated

VALUES = np.array([[0, 1, 2, 255], [7, 9, 200, 3], [0, 0, 1, 1]])


def saved(values: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **options)
    return stream.getvalue()


def palette(kind: str, colors: int) -> bytes:
    image = Image.fromarray((VALUES % colors).astype(np.uint8))
    image.putpalette([index % 256 for index in range(3 * colors)])
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def matlab(**options: object) -> bytes:
    stream = io.BytesIO()
    values = options.pop("values", VALUES)
    content = {"other": np.eye(3), "LabelMap": values.astype(options.pop("dtype", np.uint16))}
    scipy.io.savemat(stream, content, **options)
    return stream.getvalue()


MAPS = [
    saved(VALUES.astype(np.uint8)),
    saved(VALUES.astype(np.uint16) * 100),
    saved(VALUES % 2 > 0),
    palette("PNG", 256),
    palette("PNG", 4),
    palette("PNG", 16),
    palette("TIFF", 256),
    saved(np.dstack([VALUES] * 3).astype(np.uint8)),
    saved(np.dstack([VALUES] * 4).astype(np.uint8)),
    *(saved(VALUES.astype(dtype), "TIFF") for dtype in (np.uint8, np.int16, np.int32, np.float32)),
    saved(VALUES.astype(np.uint16), "TIFF", compression="tiff_lzw"),
    saved(VALUES.astype(np.uint8), "TIFF", compression="tiff_adobe_deflate"),
    saved(VALUES % 2 > 0, "TIFF", compression="group4"),
    saved(np.dstack([VALUES] * 3).astype(np.uint8), "JPEG"),
]


def _is_map(labels: np.ndarray, path: Path) -> None:
    assert labels.dtype == np.int32 and labels.size
    for ignored in (None, (255,)):
        try:
            found = look_up(labels, range(200), ignored=ignored, never={201: "of others"})
        except LabelError:
            continue
        assert found.shape == labels.shape and ((found >= -1) & (found < 200)).all()
        inside = (labels >= 0) & (labels < 200)
        assert (found[inside] == labels[inside]).all() and (found[~inside] == -1).all()


@fuzzed(mutated(MAPS) | st.binary(max_size=60), raises=(LabelError,), mebibytes=768)
def test_label_map_files(case: bytes, folder: Path) -> None:
    """Indices and colours of images: an integer a pixel, or a few words."""
    path = folder / "a.png"
    path.write_bytes(case)
    for read in (
        read_indices,
        lambda path: read_indices(path, sixteen_bits=True),
        read_colors,
    ):
        try:
            labels = read(path)
        except LabelError as error:
            assert "\n" not in str(error) and len(str(error)) < 120
            continue
        _is_map(labels, path)


MATS = [
    *(matlab(dtype=dtype) for dtype in (np.uint8, np.uint16, np.float64, np.int64)),
    *(matlab(dtype=dtype, do_compression=True) for dtype in (np.uint8, np.float32)),
]


@fuzzed(
    mutated(MATS) | st.binary(max_size=60).map(lambda tail: MATS[0][:128] + tail),
    seeds=(matlab(values=np.full((2, 2), -1e300), dtype=np.float64),),
    raises=(),
)
def test_matlab_files(case: bytes, folder: Path) -> None:
    """A matrix of whole numbers that fit, or a few words."""
    path = folder / "a.mat"
    path.write_bytes(case)
    try:
        labels = read_matlab(path)
    except LabelError as error:
        assert "\n" not in str(error) and len(str(error)) < 200
        return
    assert labels.ndim == 2
    _is_map(labels, path)


PANOPTIC = json.dumps(
    {
        "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}],
        "categories": [{"id": 1, "name": "sky"}, {"id": 2, "name": "sea", "isthing": 0}],
        "annotations": [
            {
                "image_id": number,
                "file_name": f"{number}.png",
                "segments_info": [{"id": 5, "category_id": 1}, {"id": 70000, "category_id": 2}],
            }
            for number in (1, 2)
        ],
    }
).encode()


def _prepared(path: Path) -> object:
    (path.parent / "images").mkdir()
    (path.parent / "labels").mkdir()
    (path.parent / "images" / "a.png").write_bytes(MAPS[7])
    path.rename(path.parent / "classes.txt")
    benchmark = load_benchmark("mine", path.parent)
    assert 0 < len(benchmark.classes) <= 65535 and len({*benchmark.classes}) == len(
        benchmark.classes
    )
    return benchmark


def _storybook(path: Path) -> object:
    (path.parent / "annotations").mkdir()
    path.rename(path.parent / "annotations" / "panoptic.json")
    benchmark = load_benchmark("storybook", path.parent)
    _inside(path.parent, *(s.image for s in benchmark.samples))
    _inside(path.parent, *(s.label for s in benchmark.samples))
    return benchmark


def _truth(path: Path) -> object:
    _, found = read_panoptic(path)
    _inside(path.parent.parent / "panoptic", *(png for png, _ in found.values()))
    return found


def _published(path: Path) -> object:
    (path.parent / "val2017").mkdir()
    path.rename(path.parent / "panoptic_val2017.json")
    source = coco_panoptic(path.parent, (1, 2))
    _inside(path.parent, *(p for pair in source.pairs for p in (pair.image, pair.label)))
    return source


def _inside(folder: Path, *paths: Path) -> None:
    for path in (path for path in paths if "\0" not in str(path)):  # no file has such a name
        assert path.resolve().is_relative_to(folder.resolve()), f"{path} leads out of {folder}"


LISTS: dict[str, tuple[Callable[[Path], object], list[bytes]]] = {
    "classes": (_prepared, [b"sky\nsea\nroad, route\n", "\ufeffsky\r\nm\u00e4r\r\n".encode()]),
    "list": (read_list, [b"2007_000033\n2011_003271\n", b"\xef\xbb\xbfa\r\nb\r\n"]),
    "storybook": (_storybook, [PANOPTIC]),
    "truth": (_truth, [PANOPTIC]),
    "published": (_published, [PANOPTIC]),
}
ODD_NAMES = [b'"../../x"', b'"/etc/passwd"', b"7", b"null", b'"a\\u0000b"', b"[1]", b'""', b"1e999"]


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, bytes]:
    """A list of classes or images, or an annotation file, in which something is odd."""
    kind = draw(st.sampled_from(sorted(LISTS)))
    data = draw(mutated(LISTS[kind][1]))
    if draw(st.booleans()):
        known = [b'"1.png"', b'"2.jpg"', b"70000", b'"sea"', b"2"]
        data = data.replace(draw(st.sampled_from(known)), draw(st.sampled_from(ODD_NAMES)))
    return kind, data


@fuzzed(
    lists(),
    seeds=(("storybook", PANOPTIC.replace(b'"name"', b'"oame"', 1)),),
    raises=(OvsegError,),
)
def test_lists_and_annotations(case: tuple[str, bytes], folder: Path) -> None:
    """Names of classes and files: plain, inside of the folder, or one line."""
    kind, data = case
    path = folder / "given"
    path.write_bytes(data)
    try:
        LISTS[kind][0](path)
    except OvsegError as error:
        assert "\n" not in str(error)
        raise
