"""Run-length encodings: whatever a table holds, it is a mask of its size or refused.

A crash of pycocotools ends the process, and with it the test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from ovseg.data import masks
from tests.fuzz.harness import fuzzed, mutated

SIZES = [(1, 1), (4, 4), (3, 9), (17, 5), (40, 60)]


def drawn(size: tuple[int, int], seed: int) -> bytes:
    """A valid encoding: noise, blobs, stripes, nothing, or everything."""
    rng = np.random.default_rng(seed)
    noise = rng.random(size)
    shapes = [noise > 0.5, noise > 0.95, np.cumsum(noise, axis=0) % 2 > 1, noise > 1, noise >= 0]
    return masks.encode(np.asarray(shapes[seed % 5])[None])[0]


VALID = {size: [drawn(size, seed) for seed in range(10)] for size in SIZES}
ALPHABET = bytes(range(48, 112))

sides = st.sampled_from([-1, 0, 1, 2, 3, 4, 9, 40, 60, 2**14, 2**16, 2**31, 2**63, 2.5, "4", None])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[object], object]:
    """Encodings, most of them of one size, and a size."""
    size = draw(st.sampled_from(SIZES))
    valid = VALID[size]
    one = st.one_of(
        st.sampled_from(valid),
        mutated(valid),
        st.lists(st.sampled_from(ALPHABET), max_size=40).map(bytes),
        st.binary(max_size=20),
        st.sampled_from([each for other in VALID.values() for each in other]),
        st.sampled_from(valid).map(bytes.decode),
        st.text(max_size=5),
        st.sampled_from([None, 7, [16], bytearray(b"@0"), {"counts": b"@0"}]),
    )
    counts = draw(st.lists(one, max_size=6))
    given_size = draw(st.one_of(st.just(size), st.just(list(size)), st.tuples(sides, sides)))
    return counts, given_size


@fuzzed(
    cases(),
    raises=(masks.MaskError,),
    seeds=[
        ([b"0" * 15 + b"o"], (4, 4)),
        ([b"oooooooooooooooo"], (4, 4)),
        ([b""], (4, 4)),
        ([b"0"], (0, 0)),
        ([b"P" * 12], (1, 1)),
        (["\udc80"], (4, 4)),
    ],
)
def test_encodings(case: tuple[list[object], object], folder: Path) -> None:
    """Accepted masks agree with one another, whatever is asked of them; others are named."""
    counts, size = case
    try:
        decoded = masks.decode(counts, size)
    except masks.MaskError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        for ask in (masks.areas_and_boxes, masks.broken):
            if counts and ask is not masks.broken:
                try:
                    ask(counts, size)
                except masks.MaskError:
                    continue
                raise AssertionError(f"{ask.__name__} takes what decode refuses") from error
        assert not counts or masks.broken(counts, size).any()
        raise
    if not counts:
        return
    height, width = size
    assert decoded.shape == (len(counts), height, width)
    assert masks.areas_and_boxes(counts, size)[0].tolist() == decoded.sum(axis=(1, 2)).tolist()
    assert masks.areas_and_boxes(counts, size)[1].shape == (len(counts), 4)
    overlap = masks.iou(counts, counts, size)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    masks.suppressed(counts, size, [0.5] * len(counts), 0.5)
    assert not masks.broken(counts, size).any()
    row = {"pair_id": "p", "mask_size": size, "mask_counts": counts[0]}
    assert np.array_equal(masks.decode_row(row), decoded[0])
