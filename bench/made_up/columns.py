"""Columns of made-up tables, whole arrays at a time: words, hex digits, lists, mask bytes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ovseg.data.benchmarks.vocabulary import read_vocabulary
from ovseg.data.masks import encode

Ints = NDArray[np.int64]
NOUNS = 12_000
ADJECTIVES = pa.array(["red", "little", "old", "wooden", "big", "white", "parked", "striped"])
PLACES = pa.array(["on the grass", "in the street", "at the beach", "on a table", "by the road"])
STOP_NOUNS = pa.array(["group", "picture", "view", "front", "side", "time"])
REDRAWN = 0.2
"""Share of a mask's characters that are redrawn: zstd leaves 42 % of the bytes, as of the blobs."""


@cache
def class_words() -> tuple[str, ...]:
    """Return the distinct class names of the large benchmarks."""
    names = [
        each.name.lower()
        for benchmark in ("coco-stuff-171", "ade20k-847", "context-459")
        for each in read_vocabulary(benchmark)
    ]
    return tuple(dict.fromkeys(" ".join(name.replace("-", " ").split()) for name in names))


@cache
def _words() -> tuple[tuple[str, str | None], ...]:
    """Return the lemmas by rank, each with its head if it is a compound."""
    rng = np.random.default_rng(7)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words: dict[str, str | None] = {}
    classes = list(class_words())
    rng.shuffle(classes)
    while len(words) < NOUNS:
        rank = len(words)
        if classes and rank % 4 == 0:
            words.setdefault(classes.pop(), None)
        elif rank > 100 and rank % 3 == 1:
            head = list(words)[int(rng.integers(100))]
            words.setdefault(f"{''.join(rng.choice(syllables, 2))} {head}", head)
        else:
            words.setdefault("".join(rng.choice(syllables, int(rng.integers(2, 4)))), None)
    return tuple(words.items())


@cache
def vocabulary() -> pa.Array:
    """Return the lemmas by rank."""
    return pa.array([word for word, _ in _words()])


@cache
def heads() -> pa.Array:
    """Return the heads of the lemmas by rank; null for those that are not compounds."""
    return pa.array([head for _, head in _words()], pa.string())


def mixed(values: Ints, salt: int) -> NDArray[np.uint64]:
    """Return well-mixed 64-bit numbers of numbers: the finalizer of splitmix64."""
    x = values.astype(np.uint64) + np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_DIGITS = np.array([f"{byte:02x}" for byte in range(256)], "S2").view(np.uint16)


def hexadecimal(*numbers: NDArray[np.uint64]) -> pa.Array:
    """Return the hex digits of 64-bit numbers next to each other, as text."""
    raw = np.stack([each.astype(">u8") for each in numbers], axis=1).view(np.uint8)
    text = _DIGITS[raw]
    offsets = (np.arange(len(text) + 1) * 2 * text.shape[1]).astype(np.int32)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(text))


def constant(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    """Return a column of one value, null among them."""
    return pa.nulls(rows, kind) if value is None else pa.repeat(pa.scalar(value, kind), rows)


def nullable(values: pa.Array, numbers: Ints) -> pa.Array:
    """Return the values of these numbers, null where the number is negative."""
    return values.take(pa.array(np.maximum(numbers, 0), mask=numbers < 0))


def lists(values: pa.Array, sizes: Ints) -> pa.Array:
    """Return consecutive values as lists of these sizes."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def integer_lists(numbers: Ints) -> pa.Array:
    """Return the rows of `(N, K)` numbers as lists of 32-bit numbers."""
    flat = pa.array(numbers.astype(np.int32).ravel())
    return lists(flat, np.full(len(numbers), numbers.shape[1]))


# --------------------------------------------------------------------------------------
# Masks


@cache
def mask_pool() -> list[bytes]:
    """Return the encodings of 200 random blobs in an image of 480 x 640 pixels."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:480, :640].astype(np.float32)
    turn = np.arange(720) * np.pi / 360
    pool = []
    for _ in range(200):
        center = rng.uniform([60, 60], [420, 580])
        waves = sum(
            rng.normal(0, 0.5 / k) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in range(1, 9)
        )
        radius = rng.lognormal(3.6, 0.6) * np.exp(waves)
        angle = np.arctan2(y - center[0], x - center[1]) * (360 / np.pi)
        blob = np.hypot(y - center[0], x - center[1]) < radius[angle.astype(np.int32) % 720]
        pool += encode(blob[None])
    return [each for each in pool if len(each) > 12]


def redrawn_masks(rng: np.random.Generator, rows: int) -> pa.Array:
    """Return mask bytes of the lengths and the characters of real ones; no two are equal."""
    pool = mask_pool()
    stream = np.frombuffer(b"".join(pool), np.uint8)
    sizes = np.array([len(each) for each in pool])
    firsts = np.cumsum(sizes) - sizes
    chosen = rng.integers(0, len(pool), rows)
    lengths = sizes[chosen]
    ends = np.cumsum(lengths)
    places = np.repeat((firsts[chosen] - ends + lengths).astype(np.int32), lengths)
    places += np.arange(len(places), dtype=np.int32)
    text = stream[places]
    redrawn = rng.integers(0, len(text), int(REDRAWN * len(text)), np.int32)
    text[redrawn] = stream[rng.integers(0, len(stream), len(redrawn), np.int32)]
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    return pa.BinaryArray.from_buffers(
        pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(text)]
    )
