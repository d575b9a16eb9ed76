"""The values that a file stores become brightness, whatever their depth, or are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovseg.data import images
from ovseg.data.images import ImageError, read_image
from tests.data.test_images import photo, reason, save


def test_sixteen_bits_are_scaled(tmp_path: Path):
    values = np.array([[0, 255, 257, 128 * 257, 65535]], dtype=np.uint16)
    read = read_image(save(tmp_path / "deep.png", Image.fromarray(values)))
    assert read[0, :, 0].tolist() == [0, 1, 1, 128, 255]


def saved(folder: Path, values: np.ndarray, name: str = "a.tif", **options: object) -> Path:
    return save(folder / name, Image.fromarray(values), **options)


GREY = {
    "floats from 0 to 1": (np.float32([[0, 0.25, 0.5, 1]]), [0, 64, 128, 255]),
    "floats from 0 to 255": (np.float32([[0, 16, 100.4, 255]]), [0, 16, 100, 255]),
    "floats of 16 bits": (np.float32([[0, 257, 32768, 65535]]), [0, 1, 128, 255]),
    "black floats": (np.float32([[0, 0]]), [0, 0]),
    "8 bits in 16": (np.uint16([[0, 7, 200, 255]]), [0, 7, 200, 255]),
    "12 bits in 16": (np.uint16([[0, 16, 2048, 4095]]), [0, 1, 128, 255]),
    "16 bits": (np.uint16([[0, 257, 128 * 257, 65535]]), [0, 1, 128, 255]),
    "16 bits, signed": (np.int16([[0, 2048, 4095, 5]]), [0, 128, 255, 0]),
    "32 bits": (np.int32([[0, 257, 32896, 65535]]), [0, 1, 128, 255]),
    "8 bits in 32": (np.int32([[0, 7, 200, 255]]), [0, 7, 200, 255]),
    "one bit": (np.array([[False, True, True]]), [0, 255, 255]),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_values_of_any_depth_keep_their_brightness(tmp_path: Path, kind: str):
    values, expected = GREY[kind]
    read = read_image(saved(tmp_path, values))
    assert read.dtype == np.uint8 and read.shape == (1, values.shape[1], 3)
    assert read[0].tolist() == [[each] * 3 for each in expected]


UNKNOWN = {
    "not a number": np.float32([[0, 0.5, np.nan]]),
    "nothing but not a number": np.float32([[np.nan]]),
    "infinite": np.float32([[0, 0.5, np.inf]]),
    "negative floats": np.float32([[-1, 0, 1]]),
    "floats a little above 1": np.float32([[0, 0.5, 1.5]]),
    "floats beyond 16 bits": np.float32([[0, 1e6]]),
    "negative heights": np.int16([[-5, 100, 3000]]),
    "negative in 32 bits": np.int32([[-1, 100]]),
    "beyond 16 bits": np.int32([[0, 70000]]),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_values_that_stand_for_no_brightness_are_refused(tmp_path: Path, kind: str):
    assert reason(saved(tmp_path, UNKNOWN[kind])) == "unknown_values"


def test_a_value_that_is_not_finite_is_found_wherever_it_is(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(images, "STRIP_PIXELS", 8)
    for place in (0, 13, 31):
        values = np.linspace(0, 1, 32, dtype=np.float32).reshape(8, 4)
        values[place // 4, place % 4] = np.nan
        assert reason(saved(tmp_path, values)) == "unknown_values"


def png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG of any kind; `rows` are its lines, each after a 0."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    body = b"".join(chunk(each[:4], each[4:]) for each in chunks)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + head + body + data + chunk(b"IEND", b"")


def test_colours_of_16_bits(tmp_path: Path):
    def colours(*values: int) -> bytes:
        return png(1, 1, 16, 2, b"\0" + struct.pack(">3H", *values))

    assert images.decode(colours(65535, 257, 32896)).tolist() == [[[255, 1, 128]]]
    assert images.decode(colours(0, 0, 0)).tolist() == [[[0, 0, 0]]]
    with pytest.raises(ImageError, match="unknown_values"):
        images.decode(colours(4095, 2000, 0))  # 12 bits, of which four are left


def test_grey_with_alpha_of_16_bits():
    values = b"\0" + struct.pack(">4H", 32896, 65535, 32896, 0)
    assert images.decode(png(2, 1, 16, 4, values)).tolist() == [[[128] * 3, [255] * 3]]
    with pytest.raises(ImageError, match="unknown_values"):
        images.decode(png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 4095, 65535, 0, 65535)))


def test_a_transparent_value_of_16_bits_lies_on_white():
    values = b"\0" + struct.pack(">3H", 0, 32896, 65535)
    read = images.decode(png(3, 1, 16, 0, values, b"tRNS" + struct.pack(">H", 32896)))
    assert read[0, :, 0].tolist() == [0, 255, 255]


def test_palettes_with_alpha_lie_on_white(tmp_path: Path):
    palette = b"PLTE" + bytes([10, 20, 30, 40, 50, 60])
    read = images.decode(png(2, 1, 8, 3, b"\0\0\1", palette, b"tRNS" + bytes([255, 0])))
    assert read.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_cmyk_in_tiff(tmp_path: Path):
    red = save(tmp_path / "a.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
    assert read_image(red)[0, 0].tolist() == [255, 0, 0]


def test_signed_bytes_and_colours_of_no_screen_are_refused(tmp_path: Path):
    values = np.uint8([[3, 250]])
    signed = saved(tmp_path, values, tiffinfo={339: 2})
    assert reason(signed) == "unknown_values"
    assert read_image(saved(tmp_path, values & 127, tiffinfo={339: 2}))[0, 0, 0] == 3
    lab = Image.new("LAB", (2, 2), (100, 128, 128))
    assert reason(save(tmp_path / "lab.tif", lab)) == "unknown_values"


def test_white_may_be_zero(tmp_path: Path):
    for values in (np.uint16([[0, 65535]]), np.float32([[0, 1]]), np.uint8([[0, 255]])):
        content = bytearray(saved(tmp_path, values).read_bytes())
        tag = struct.pack("<HHII", 262, 3, 1, 1)  # photometric: black is zero
        assert content.count(tag) == 1
        content[content.index(tag) + 8] = 0
        assert images.decode(bytes(content))[0, :, 0].tolist() == [255, 0]


def test_strips_change_nothing(tmp_path: Path, monkeypatch):
    picture = Image.fromarray(photo())
    clear = picture.convert("RGBA")
    clear.putalpha(picture.convert("L"))
    files = [
        save(tmp_path / "deep.png", Image.fromarray(photo()[..., 0].astype(np.uint16) * 250)),
        save(tmp_path / "palette.png", picture.quantize(16), transparency=3),
        save(tmp_path / "clear.png", clear),
        save(tmp_path / "grey.png", picture.convert("LA")),
        save(tmp_path / "cmyk.jpg", picture.convert("CMYK")),
    ]
    whole = [read_image(path) for path in files]
    monkeypatch.setattr(images, "STRIP_PIXELS", 700)
    for path, expected in zip(files, whole, strict=True):
        assert np.array_equal(read_image(path), expected)
