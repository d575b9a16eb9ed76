"""Label maps in MATLAB files: what is read, what is refused, how little is unpacked."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from ovseg.data.benchmarks import matlab_maps
from ovseg.data.benchmarks.label_maps import (
    LabelError,
)
from ovseg.data.benchmarks.matlab_maps import read_matlab


def test_matlab(tmp_path):
    path = tmp_path / "a.mat"
    for dtype in (np.uint8, np.uint16, np.float64):
        scipy.io.savemat(path, {"LabelMap": np.array([[0, 3], [200, 5]], dtype=dtype)})
        assert read_matlab(path).tolist() == [[0, 3], [200, 5]]
    for content, reason in (
        ({"Labels": np.zeros((2, 2))}, "no LabelMap in the file"),
        ({"LabelMap": np.zeros((2, 2, 3))}, r"LabelMap of shape \(2, 2, 3\)"),
        ({"LabelMap": np.full((2, 2), 0.5)}, "not of whole numbers"),
        ({"LabelMap": np.full((2, 2), -1e300)}, r"^LabelMap holds -1e\+300, none of the classes$"),
        ({"LabelMap": np.full((2, 2), 2**40)}, r"^LabelMap holds 1.09951e\+12, none of the"),
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


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(
    shape: tuple[int, ...], kind: int, values: bytes, *, name=b"LabelMap", flags=9, order="<"
) -> bytes:
    """A variable as it stands in a file, whatever its parts say of one another."""
    return element(
        14,
        element(6, struct.pack(order + "II", flags, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + element(1, name, order)
        + element(kind, values, order),
        order,
    )


def mat(path: Path, *variables: bytes, order: str = "<") -> Path:
    mark = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + mark + b"".join(variables))
    return path


def packed(variable: bytes) -> bytes:
    content = zlib.compress(variable)
    return struct.pack("<II", 15, len(content)) + content


@pytest.mark.parametrize("compress", [False, True])
def test_matlab_files_are_read_as_scipy_writes_them(tmp_path, compress):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.mat"
    for dtype in (np.uint8, np.int8, np.uint16, np.int32, np.uint64, np.float32, np.float64, bool):
        for shape in ((1, 1), (2, 3), (5, 1), (60, 70)):
            values = rng.integers(0, 2 if dtype is bool else 120, shape).astype(dtype)
            others = {"before": np.zeros((3, 3)), "LabelMap": values, "text": "x", "c": {"a": 1}}
            scipy.io.savemat(path, others, do_compression=compress)
            read = read_matlab(path)
            assert read.dtype == np.int32 and read.tolist() == values.astype(int).tolist()


def test_matlab_files_of_the_other_byte_order(tmp_path):
    values = struct.pack(">6h", 1, 2, 3, 4, 5, 600)
    path = mat(tmp_path / "a.mat", matrix((2, 3), 3, values, order=">"), order=">")
    assert read_matlab(path).tolist() == [[1, 3, 5], [2, 4, 600]]


BENT = {  # what a cast to 32 bits would make a class of
    "beyond 32 bits": (13, struct.pack("<2Q", 3, 2**32 + 3)),
    "the largest": (13, struct.pack("<2Q", 3, 2**64 - 1)),
    "far below": (12, struct.pack("<2q", 3, -(2**32) + 3)),
    "a large float": (9, struct.pack("<2d", 3, 1e300)),
    "a float beyond": (9, struct.pack("<2d", 3, 2.0**32 + 3)),
    "not a number": (9, struct.pack("<2d", 3, float("nan"))),
    "infinite": (7, struct.pack("<2f", 3, float("-inf"))),
}


@pytest.mark.parametrize("kind", BENT)
def test_values_that_do_not_fit_are_refused(tmp_path, kind):
    with pytest.raises(LabelError, match=r"none of the classes|not of whole numbers"):
        read_matlab(mat(tmp_path / "a.mat", matrix((1, 2), *BENT[kind])))


HOSTILE = {
    "a size nobody can hold": matrix((2**30, 2**30), 2, b"\1"),
    "a size that is too large": matrix((5000, 5000), 2, b"\1"),
    "a negative size": matrix((-1, -1), 2, b"\1"),
    "nothing": matrix((0, 7), 2, b""),
    "no sizes": matrix((), 2, b"\1"),
    "many sizes": matrix((1,) * 500, 2, b"\1"),
    "fewer values than its size": matrix((3, 3), 2, b"\1\2"),
    "values of no type": matrix((1, 1), 99, b"\1\2\3\4"),
    "complex values": matrix((1, 1), 9, bytes(8), flags=0x806),
    "cells": matrix((1, 1), 14, bytes(64), flags=1),
    "a sparse matrix": matrix((1, 1), 9, bytes(8), flags=5),
    "a length beyond the file": struct.pack("<II", 14, 2**32 - 1) + bytes(40),
    "an element in an element": element(14, element(14, element(14, bytes(8)))),
    "nothing packed": struct.pack("<II", 15, 0),
    "packed nothing": packed(b""),
    "packed in packed": packed(packed(matrix((1, 1), 2, b"\1"))),
    "damaged packing": packed(matrix((1, 1), 2, b"\1"))[:-9] + b"\xff" * 9,
    "zeros": bytes(8000),
    "many variables": matrix((1, 1), 2, b"\1", name=b"x") * 2000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_matlab_file_is_refused(tmp_path, kind):
    with pytest.raises(LabelError):
        read_matlab(mat(tmp_path / "a.mat", HOSTILE[kind]))


def test_little_is_unpacked_of_a_packed_file(tmp_path, monkeypatch):
    """A kilobyte may unpack to any amount: only as much as the map's size says is unpacked."""
    unpacked = []

    class Counting:
        def __init__(self):
            self.inner = zlib.decompressobj()

        def decompress(self, data, most):
            part = self.inner.decompress(data, most)
            unpacked.append(len(part))
            return part

    class Module:
        error, decompressobj = zlib.error, Counting

    monkeypatch.setattr(matlab_maps, "zlib", Module)
    bomb = packed(matrix((3000, 3000), 9, bytes(8 * 3000 * 3000), name=b"other"))
    small = packed(matrix((1, 2), 2, b"\1\2") + bytes(10**7))
    path = mat(tmp_path / "a.mat", bomb, small)
    assert path.stat().st_size < 100_000
    assert read_matlab(path).tolist() == [[1, 2]]
    assert sum(unpacked) < 20_000
