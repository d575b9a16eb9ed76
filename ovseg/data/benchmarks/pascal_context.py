"""The published layout of PASCAL Context: MATLAB files of 459 classes for images of VOC 2010.

The benchmarks of 459 and of 59 classes read the same files; their values are the class numbers in
`labels.txt`.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ovseg.data.benchmarks.label_maps import look_up
from ovseg.data.benchmarks.layouts import Pair, Source, Values, one_of, read_list
from ovseg.data.benchmarks.matlab_maps import read_matlab
from ovseg.data.benchmarks.vocabulary import normalized, read_vocabulary
from ovseg.errors import OvsegError
from ovseg.files.digests import known_sha256
from ovseg.files.locations import read_text

_CONTEXT = 459


def pascal_context(home: Path, values: Values) -> Source:
    """Find `trainval/*.mat`, with 459 classes from 1, for the images of `pascalcontext_val.txt`.

    If `labels.txt` exists, its class numbers must match the values. `59_labels.txt` is not needed:
    the 59 classes are found by name, not by line.
    """
    maps, images = one_of(home, ("trainval",)), one_of(home, ("JPEGImages",))
    names = read_list(one_of(home, ("pascalcontext_val.txt",)))
    notes: list[str] = []
    content: dict[str, str] = {}
    numbered = home / "labels.txt"
    if numbered.is_file():
        notes += _check_numbers(numbered)
        content[numbered.name] = known_sha256(numbered)
    short = home / "59_labels.txt"
    if short.is_file():
        notes += _check_short_list(short)
    known = {*range(_CONTEXT + 1)} - {*values}
    return Source(
        pairs=tuple(Pair(stem, images / f"{stem}.jpg", maps / f"{stem}.mat") for stem in names),
        labels=lambda pair: look_up(read_matlab(pair.label), values, ignored=known),
        content=content,
        notes=tuple(notes),
    )


@functools.cache
def _context_numbers() -> dict[str, int]:
    """Map the names of the 459 classes, without spaces, to their numbers."""
    return {_compact(each.name): each.class_id + 1 for each in read_vocabulary("context-459")}


def _compact(name: str) -> str:
    return normalized(name).replace(" ", "")


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OvsegError(f"{path} cannot be read ({error}): get it again or remove it") from error
    parts = (line.rpartition(":") for line in lines if line.strip())
    return [(number.strip(), name.strip()) for number, _, name in parts]


def _check_numbers(path: Path) -> list[str]:
    """Reject a list that gives a class another's number; note names spelled differently."""
    numbers = _context_numbers()
    notes = []
    for number, name in _lines(path):
        if not number.isdecimal() or int(number) == 0:
            continue
        if numbers.get(_compact(name), int(number)) != int(number):
            raise OvsegError(
                f"{path}: {name} is {number}, but {numbers[_compact(name)]} in the published"
                " labels; get the labels.txt that comes with trainval"
            )
        if _compact(name) not in numbers:
            notes.append(f"{path.name}: {name!r} ({number}) is spelt otherwise here")
    return notes


def _check_short_list(path: Path) -> list[str]:
    """Note lines in the list of 59 classes that are not a class, such as a header."""
    classes = {_compact(each.name) for each in read_vocabulary("context-59")} | {"diningtable"}
    odd = [name for _, name in _lines(path) if _compact(name) not in classes]
    return [
        f"{path.name}: {name!r} is none of the 59 classes; the file is not used" for name in odd
    ]
