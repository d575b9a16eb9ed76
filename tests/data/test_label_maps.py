"""Label maps: what is read, looked up, refused; smaller maps and images as OpenCV makes them."""

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ovseg.data.label_maps import (
    IGNORED,
    LabelError,
    look_up,
    read_colours,
    read_indices,
    read_matlab,
    write_indices,
)
from ovseg.data.resizing import resize_linear, resize_nearest, short_side_size


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
        read_colours(tmp_path / "a.png")


def test_sixteen_bit_tiff(tmp_path):
    Image.fromarray(np.array([[0, 846, 65535]], dtype=np.uint16)).save(tmp_path / "a.tif")
    assert read_indices(tmp_path / "a.tif", sixteen_bits=True).tolist() == [[0, 846, 65535]]


def test_matlab(tmp_path):
    path = tmp_path / "a.mat"
    for dtype in (np.uint8, np.uint16, np.float64):
        scipy.io.savemat(path, {"LabelMap": np.array([[0, 3], [200, 5]], dtype=dtype)})
        assert read_matlab(path).tolist() == [[0, 3], [200, 5]]
    for content, reason in (
        ({"Labels": np.zeros((2, 2))}, "no LabelMap in the file"),
        ({"LabelMap": np.zeros((2, 2, 3))}, r"LabelMap of shape \(2, 2, 3\)"),
        ({"LabelMap": np.full((2, 2), 0.5)}, "not of whole numbers"),
        ({"LabelMap": np.array([["a", "b"]])}, "not of whole numbers|of shape"),
    ):
        scipy.io.savemat(path, content)
        with pytest.raises(LabelError, match=reason):
            read_matlab(path)
    scipy.io.savemat(path, {"LabelMap": np.zeros((40, 40))})
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(LabelError, match="unreadable label map"):
        read_matlab(path)
    path.write_bytes(b"MATLAB 7.3 MAT-file, " + b" " * 200)
    with pytest.raises(LabelError, match="unreadable label map"):
        read_matlab(path)
    with pytest.raises(LabelError, match="no label map"):
        read_matlab(tmp_path / "gone.mat")


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
