"""Run lengths of masks and the strings that hold them: COCO's compressed run-length encoding.

A mask is read down its columns, as runs of background and foreground in turn; the first run is
background and may be empty. A string holds the runs as numbers of one to six characters. Each
character holds five bits of a number, the lowest first, and whether more follow; the highest bit of
the last one is the sign. From the fourth number on, a run is stored as the difference from the run
two before it (`rleToString` and `rleFrString` of the COCO API).

All strings of a call are read and written at once, as arrays of characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.errors import OvsegError

Size = tuple[int, int]
"""Height, width."""
Counts = bytes | str
"""A compressed RLE; text must be ASCII."""

MAX_PIXELS = 2**28
"""Of one mask; larger than any image that is read (`ovseg.data.images.MOST_PIXELS`)."""
_FIRST, _MORE, _SIGN, _BITS = 48, 32, 16, 5
_LONGEST = 6
"""Most characters of a run's number: 30 bits with the sign hold `MAX_PIXELS`."""


class MaskError(OvsegError):
    """An unusable COCO run-length encoding; `reason` says why in a few words."""

    def __init__(self, reason: str, what: str = "a mask") -> None:
        super().__init__(
            f"{what} cannot be used ({reason}): its table is damaged or belongs to other images,"
            " make it again"
        )
        self.reason = reason


@dataclass(frozen=True)
class Runs:
    """The run lengths of Q masks of one size, one mask behind the other."""

    lengths: NDArray[np.int32]
    """`(R,)` pixels, background first for each mask; those of a mask sum to its pixels."""
    stops: NDArray[np.int64]
    """`(Q,)`: where the runs of each mask stop in `lengths`."""
    size: Size

    @property
    def starts(self) -> NDArray[np.int64]:
        """`(Q,)`: where the runs of each mask start in `lengths`."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.stops[:-1]])[: len(self.stops)]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """`(R,)`: whether a run is foreground, every other one of a mask."""
        is_odd = np.zeros(len(self.lengths), dtype=np.bool_)
        is_odd[1::2] = True
        is_odd ^= np.repeat(self.starts % 2 == 1, self.stops - self.starts)
        return is_odd

    def __getitem__(self, span: slice) -> Runs:
        """Return the runs of some masks in a row."""
        starts, stops = self.starts[span], self.stops[span]
        return Runs(self.lengths[starts[0] : stops[-1]], stops - starts[0], self.size)

    def of(self, selected: NDArray[np.bool_]) -> Runs:
        """Return the runs of the selected of the masks, `(Q,)`."""
        numbers = self.stops - self.starts
        kept = np.repeat(selected, numbers)
        return Runs(self.lengths[kept], np.cumsum(numbers[selected]), self.size)


def runs_between(edges: NDArray[np.int32], per_mask: NDArray[np.integer], size: Size) -> Runs:
    """Return the runs of masks from the places where their pixels change.

    Args:
        edges: ascending places in all masks read one after the other, down their columns, where a
            pixel differs from the one before; a mask's first pixel from background.
        per_mask: `(Q,)` number of edges of each mask.
        size: height and width; all masks together have less than 2^31 pixels.
    """
    pixels = size[0] * size[1]
    stops = np.cumsum(per_mask, dtype=np.int64) + np.arange(1, len(per_mask) + 1)
    ends = np.empty(len(edges) + len(stops), dtype=np.int32)
    is_edge = np.ones(len(ends), dtype=np.bool_)
    is_edge[stops - 1] = False
    ends[is_edge] = edges
    ends[stops - 1] = pixels * np.arange(1, len(stops) + 1)
    return Runs(np.diff(ends, prepend=np.int32(0)), stops, size)


# --------------------------------------------------------------------------------------
# To strings


def to_strings(runs: Runs) -> list[bytes]:
    """Return the compressed RLE string of each mask, as `rleToString` of the COCO API does."""
    numbers = runs.lengths.copy()
    numbers[2:] -= runs.lengths[:-2]
    for place in range(3):  # the first three of a mask are absolute
        first = runs.starts + place
        first = first[first < runs.stops]
        numbers[first] = runs.lengths[first]
    characters = np.ones(len(numbers), dtype=np.uint8)
    longer = []
    left, rest = np.arange(len(numbers)), numbers
    while len(left := left[too_long := _needs_more(rest)]):
        rest = rest[too_long] >> _BITS
        characters[left] += 1
        longer.append((left, rest))
    stops = np.cumsum(characters, dtype=np.int64)
    at = stops - characters
    text = np.empty(characters.sum(dtype=np.int64), dtype=np.uint8)
    text[at] = _character(numbers)
    for place, (left, rest) in enumerate(longer, start=1):
        here = at[left] + place
        text[here - 1] += _MORE
        text[here] = _character(rest)
    joined, ends = text.tobytes(), stops[runs.stops - 1].tolist()
    return [joined[start:end] for start, end in zip([0, *ends[:-1]], ends)]


def _needs_more(numbers: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which numbers do not fit the five bits of a last character, sign included."""
    # negative ones wrap around to large ones
    return (numbers + np.int32(_SIGN)).view(np.uint32) >= 2 * _SIGN


def _character(numbers: NDArray[np.int32]) -> NDArray[np.uint8]:
    return (numbers.astype(np.uint8) & np.uint8(_MORE - 1)) + np.uint8(_FIRST)


# --------------------------------------------------------------------------------------
# From strings


def from_strings(counts: Sequence[Counts], size: Size) -> Runs:
    """Read and check encodings of masks of a size.

    Args:
        counts: Q compressed RLE strings.
        size: height and width of all of them.

    Raises:
        MaskError: a string has characters outside the encoding, ends within a number, or has runs
            that are negative or do not add up to the pixels; or the size is not two positive whole
            numbers, or has more than `MAX_PIXELS`.
    """
    height, width = checked_size(size)
    strings = [as_bytes(each, place) for place, each in enumerate(counts)]
    if not strings:
        return Runs(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64), (height, width))
    lengths = np.array([len(each) for each in strings])
    if not lengths.all():
        raise _wrong(int(lengths.argmin()), "it is empty")
    # characters below the encoding's first wrap around beyond its last, and so are found as well
    values = np.frombuffer(b"".join(strings), dtype=np.uint8) - np.uint8(_FIRST)
    ends = np.cumsum(lengths)
    _refuse(values > 63, ends, "a character that no encoding has")
    last = values < _MORE
    if not last[ends - 1].all():
        raise _wrong(int(last[ends - 1].argmin()), "its last character says that more follows")
    behind_number = np.flatnonzero(last)
    stops = np.searchsorted(behind_number, ends)
    characters = np.diff(behind_number, prepend=-1)
    _refuse(characters > _LONGEST, stops, "a number that is too large")
    runs = _numbers(values, behind_number, characters).astype(np.int64)
    for start, stop in zip([0, *stops[:-1].tolist()], stops.tolist()):
        # the first number is absolute; odd ones add up from there, even ones from the third on
        for chain in (runs[start + 1 : stop : 2], runs[start + 2 : stop : 2]):
            np.cumsum(chain, out=chain)
    pixels = height * width
    _refuse((runs < 0) | (runs > pixels), stops, "a run that is negative or too long")
    sums = np.add.reduceat(runs, (0, *stops[:-1].tolist()))
    if (sums != pixels).any():
        reason = f"its runs do not add up to {height} x {width} pixels"
        raise _wrong(int((sums != pixels).argmax()), reason)
    return Runs(runs.astype(np.int32), stops, (height, width))


def _numbers(
    values: NDArray[np.uint8], stops: NDArray[np.int64], characters: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Decode numbers from characters; `stops` holds where each ends, `characters` its length."""
    low = values[stops]  # of a number's last character, so without the mark that more follow
    numbers = low.astype(np.int32)
    numbers -= (numbers & _SIGN) << 1
    longer = np.flatnonzero(characters > 1)
    place = 1
    while longer.size:
        lower_bits = values[stops[longer] - place] & np.uint8(_MORE - 1)
        numbers[longer] = (numbers[longer] << _BITS) | lower_bits
        place += 1
        longer = longer[characters[longer] > place]
    return numbers


def checked_size(size: Sequence[int]) -> Size:
    """Return a height and a width.

    Raises:
        MaskError: they are not two positive whole numbers, or have more than `MAX_PIXELS`.
    """
    try:
        height, width = (int(side) for side in size)
        whole = [height, width] == list(size)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise MaskError(f"its size {size!r} does not have 1 to {MAX_PIXELS} pixels"[:200])
    return height, width


def as_bytes(counts: object, place: int = 0) -> bytes:
    """Return a string's bytes.

    Raises:
        MaskError: it is neither bytes nor ASCII text; names `place`, counted from 0.
    """
    if isinstance(counts, str) and counts.isascii():
        return counts.encode()
    if isinstance(counts, bytes):
        return counts
    raise _wrong(place, f"its counts are {type(counts).__name__}, not ASCII text")


def _refuse(bad: NDArray[np.bool_], ends: NDArray[np.int64], reason: str) -> None:
    """Reject the mask with the first bad item; `ends` holds where the items of each mask end."""
    if bad.any():
        raise _wrong(int(np.searchsorted(ends, bad.argmax(), side="right")), reason)


def _wrong(place: int, reason: str) -> MaskError:
    return MaskError(reason, f"mask {place + 1}")
