"""Label maps: what is read, looked up, refused; smaller maps and images as OpenCV makes them."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ovseg.data.benchmarks import label_maps
from ovseg.data.benchmarks.label_counts import LabelCounts, doubts
from ovseg.data.benchmarks.label_maps import (
    IGNORED,
    LabelError,
    OtherNumbering,
    look_up,
    read_colors,
    read_indices,
    write_indices,
)
from ovseg.data.benchmarks.matlab_maps import read_matlab
from ovseg.data.benchmarks.resizing import resize_linear, resize_nearest, short_side_size


@settings(deadline=None)
@given(st.data())
def test_look_up_is_a_dictionary(data):
    values = data.draw(st.lists(st.integers(0, 3000), min_size=1, max_size=30, unique=True))
    others = data.draw(st.lists(st.integers(0, 3000).filter(lambda v: v not in values), max_size=9))
    stored = data.draw(st.lists(st.sampled_from([*values, *others]), min_size=1, max_size=40))
    expected = [values.index(v) if v in values else IGNORED for v in stored]
    pixels = np.array([stored])
    assert look_up(pixels, values, ignored=others).tolist() == [expected]
    assert look_up(pixels, values, ignored=None).tolist() == [expected]
    foreign = [v for v in stored if v not in values]
    if foreign:
        with pytest.raises(LabelError, match=f"label {foreign[0]} is none of the classes"):
            look_up(pixels, values, ignored=())


@pytest.mark.parametrize(("ignore", "mode", "top"), [(255, "L", 254), (65535, "I;16", 65534)])
def test_what_is_written_is_read(tmp_path, ignore, mode, top):
    labels = np.array([[0, top, IGNORED], [1, 2, 3]], dtype=np.int32)
    write_indices(labels, tmp_path / "a.png", ignore_index=ignore)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
    stored = read_indices(tmp_path / "a.png")
    assert stored.dtype == np.int32 and stored.tolist() == [[0, top, ignore], [1, 2, 3]]


def test_indices_of_a_palette_count_not_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 255]], dtype=np.uint8))
    image.putpalette([200, 0, 0] * 256)
    image.save(tmp_path / "a.png")
    assert read_indices(tmp_path / "a.png").tolist() == [[0, 1, 255]]
    with pytest.raises(LabelError, match="8 bits, its classes need 16"):
        read_indices(tmp_path / "a.png", sixteen_bits=True)
    with pytest.raises(LabelError, match="mode P, not of colours"):
        read_colors(tmp_path / "a.png")


def test_sixteen_bit_tiff(tmp_path):
    Image.fromarray(np.array([[0, 846, 65535]], dtype=np.uint16)).save(tmp_path / "a.tif")
    assert read_indices(tmp_path / "a.tif", sixteen_bits=True).tolist() == [[0, 846, 65535]]


# --------------------------------------------------------------------------------------
# Files of any kind


READERS = {"indices": read_indices, "colours": read_colors, "matlab": read_matlab}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**29 + 1)  # sparse: no room on the disk


def of_format(name: str):
    return lambda path: Image.new("RGB", (8, 8)).save(path, format=name)


KINDS = {
    "a pipe": (fifo, "unreadable_file"),
    "a device": (device, "unreadable_file"),
    "a folder": (Path.mkdir, "unreadable_file"),
    "a link to nothing": (lambda path: path.symlink_to("gone"), "no label map"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "unreadable_file|no label map"),
    "an empty file": (Path.touch, "zero_bytes"),
    "a huge file": (huge, "too many pixels or bytes"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_of_bounded_size_are_read(tmp_path, reader, kind):
    make, reason = KINDS[kind]
    make(tmp_path / "a.png")
    with pytest.raises(LabelError, match=reason):
        READERS[reader](tmp_path / "a.png")


@pytest.mark.parametrize("name", ["EPS", "JPEG", "GIF", "BMP", "WEBP", "PDF", "PPM"])
def test_whatever_it_is_called_only_png_and_tiff_are_decoded(tmp_path, name, monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("a program is started")

    monkeypatch.setattr("subprocess.check_call", run)
    monkeypatch.setattr("subprocess.Popen", run)
    of_format(name)(tmp_path / "a.png")
    for reader in (read_indices, read_colors):
        with pytest.raises(LabelError, match="neither PNG nor TIFF"):
            reader(tmp_path / "a.png")


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new("L", (2000, 900)).save(tmp_path / "a.png")
    monkeypatch.setattr(label_maps, "MAX_PIXELS", 1_799_999)
    with pytest.raises(LabelError, match="label map of 2000 x 900 pixels"):
        read_indices(tmp_path / "a.png")
    monkeypatch.setattr(label_maps, "MAX_PIXELS", 1_800_000)
    assert read_indices(tmp_path / "a.png").shape == (900, 2000)


# --------------------------------------------------------------------------------------
# Values as they are stored


def grey_png(path: Path, depth: int, row: bytes, width: int) -> None:
    """A grey PNG of less than 8 bits, which Pillow reads as brightness."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + row))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("depth", "row", "stored"),
    [
        (1, b"\xa0", [1, 0, 1, 0]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (4, b"\x01\x7f", [0, 1, 7, 15]),
        (8, b"\x00\x01\x11\xff", [0, 1, 17, 255]),
    ],
)
def test_a_grey_png_of_few_bits_gives_what_it_stores(tmp_path, depth, row, stored):
    grey_png(tmp_path / "a.png", depth, row, 4)
    assert read_indices(tmp_path / "a.png").tolist() == [stored]


def test_white_as_zero_changes_no_label(tmp_path):
    """A TIFF may say that 0 is white; what it stores is a class all the same."""
    for values in (np.uint8([[0, 1, 200]]), np.array([[True, False, True]])):
        Image.fromarray(values).save(tmp_path / "a.tif")
        content = bytearray((tmp_path / "a.tif").read_bytes())
        tag = struct.pack("<HHII", 262, 3, 1, 1)
        assert content.count(tag) == 1
        content[content.index(tag) + 8] = 0
        (tmp_path / "b.tif").write_bytes(content)
        for name in ("a.tif", "b.tif"):
            assert read_indices(tmp_path / name).tolist() == values.astype(int).tolist()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint16])
def test_values_of_other_depths_are_not_bent_into_classes(tmp_path, dtype):
    values = np.array([[0, 5, np.iinfo(dtype).max]], dtype=dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_indices(tmp_path / "a.tif").tolist() == values.tolist()
    if np.iinfo(dtype).min < 0:
        Image.fromarray(-values).save(tmp_path / "a.tif")
        stored = read_indices(tmp_path / "a.tif")
        assert stored.tolist() == (-values).tolist()
        with pytest.raises(LabelError, match="label -5 is none of the classes"):
            look_up(stored, range(10), ignored=(255,))


def test_signed_bytes_are_signed(tmp_path):
    Image.fromarray(np.uint8([[3, 251, 255]])).save(tmp_path / "a.tif", tiffinfo={339: 2})
    assert read_indices(tmp_path / "a.tif").tolist() == [[3, -5, -1]]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    for values in (
        np.uint8([[0, 1, 200]]),
        np.uint16([[0, 300, 65535]]),
        np.int32([[0, 9, 70000]]),
    ):
        Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
        assert read_indices(tmp_path / "a.tif").tolist() == values.tolist()


def test_floats_and_alpha_are_no_indices(tmp_path):
    for mode, name in (("F", "a.tif"), ("LA", "a.png"), ("RGBA", "a.png"), ("CMYK", "a.tif")):
        Image.new(mode, (2, 2)).save(tmp_path / name)
        with pytest.raises(LabelError, match=f"label map of mode {mode}, not of indices"):
            read_indices(tmp_path / name)


# --------------------------------------------------------------------------------------
# What the values of a set give away


def test_a_value_of_another_numbering_is_told_from_a_stray_one():
    stored = np.array([[1, 9, 7]])
    with pytest.raises(OtherNumbering, match="label 7 is what others store"):
        look_up(stored, (1, 2), ignored=(), never={7: "what others store", 8: "no more"})
    with pytest.raises(LabelError, match="label 9 is none of the classes") as caught:
        look_up(stored[:, :2], (1, 2), ignored=(), never={7: "what others store"})
    assert not isinstance(caught.value, OtherNumbering)


def test_values_beyond_any_table_are_none_of_the_classes():
    for value in (-1, -(2**31), 2**31 - 1, 3):
        stored = np.array([[0, value]], dtype=np.int32)
        assert look_up(stored, (0, 1), ignored=None).tolist() == [[0, IGNORED]]
        with pytest.raises(LabelError, match=f"label {value} is none"):
            look_up(stored, (0, 1), ignored=(2,))


def test_what_counts_is_counted():
    counts = LabelCounts(("sky", "sea", "land"))
    assert counts.nothing is None and counts.absent is None
    counts.add(np.array([[255, 255], [-1, 3]]))
    assert counts.nothing.startswith(
        "no pixel of 1 label map counts: none is a class's number, 0 to"
    )
    assert counts.absent is None
    counts.add(np.array([[0, 2, 2]]))
    assert (counts.pixels.tolist(), counts.ignored, counts.maps) == ([1, 0, 2], 4, 2)
    assert counts.nothing is None
    assert counts.absent == "class 'sea' has no pixel in any label map"
    many = LabelCounts([f"c{number}" for number in range(9)])
    many.add(np.array([[8]]))
    assert many.absent == ("8 of 9 classes have no pixel: 'c0', 'c1', 'c2', 'c3', 'c4' and 3 more")


def test_doubts_need_a_whole_set():
    counts = LabelCounts(("a", "b", "c"))
    for _ in range(100):
        counts.add(np.array([[0, 1]]))
    (note,) = doubts(counts, (7, 8, 20), 18, [])
    assert note.startswith("no pixel is stored above 18, where the owner has 1 classes")
    assert doubts(counts, (7, 8, 20), None, []) == doubts(counts, (7, 20, 8), 18, []) == ()
    counts.maps = 99
    assert doubts(counts, (7, 8, 20), 18, ["missing_file"]) == ()
    (note,) = doubts(counts, (7, 8, 20), 18, ["label 9 is none of the classes", "truncated"])
    assert note.startswith("1 images hold values that the owner never stores, the first: label 9")


# --------------------------------------------------------------------------------------
# Smaller maps and images


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((512, 700), (512, 700)),
        ((300, 900), (300, 900)),
        ((1024, 1024), (512, 512)),
        ((600, 900), (512, 768)),
        ((2048, 1536), (683, 512)),
        ((1650, 2200), (512, 683)),
    ],
)
def test_short_side(size, smaller):
    assert short_side_size(*size, 512) == smaller


def test_smaller_as_opencv_makes_it():
    """`cv2.resize` of OpenCV 5.0 to 5 x 4 pixels, written down; its linear rounds otherwise."""
    image = (np.arange(7 * 9 * 3) * 37 % 256).astype(np.uint8).reshape(7, 9, 3)
    linear = [
        [92, 183, 179, 122, 105],
        [145, 140, 135, 130, 125],
        [101, 141, 91, 86, 81],
        [160, 103, 47, 42, 191],
    ]
    assert np.abs(resize_linear(image, (4, 5))[..., 0].astype(int) - linear).max() <= 1
    labels = np.arange(63, dtype=np.int32).reshape(7, 9)
    assert resize_nearest(labels, (4, 5)).tolist() == [
        [0, 1, 3, 5, 7],
        [9, 10, 12, 14, 16],
        [27, 28, 30, 32, 34],
        [45, 46, 48, 50, 52],
    ]
    # 288 * 2200 / 768 is 825 exactly, and OpenCV takes pixel 824
    column = np.arange(2200, dtype=np.int32)[:, None]
    assert resize_nearest(column, (768, 1))[288, 0] == 824
    assert resize_nearest(labels, (7, 9)).tolist() == labels.tolist()
    assert (resize_linear(image, (7, 9)) == image).all()
