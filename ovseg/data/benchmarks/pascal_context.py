"""PASCAL Context as its owner publishes it: MATLAB files of 459 classes over images of VOC 2010.

The benchmarks of 459 and of 59 classes read the same files; their values are the numbers that
`labels.txt` gives the classes.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ovseg.data.benchmarks.label_maps import look_up
from ovseg.data.benchmarks.layouts import Pair, Source, Values, one_of, read_list
from ovseg.data.benchmarks.matlab_maps import read_matlab
from ovseg.data.benchmarks.vocabulary import normalised, read_vocabulary
from ovseg.errors import OvsegError
from ovseg.files.digests import known_sha256
from ovseg.files.locations import read_text

_CONTEXT = 459


def pascal_context(home: Path, values: Values) -> Source:
    """`trainval/*.mat` with 459 classes from 1, of the images of `pascalcontext_val.txt`.

    `labels.txt`, if it is there, must number the classes as the values do. `59_labels.txt` is not
    needed: the 59 classes are found by name, not by line.
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
    """The numbers of the 459 classes by their names, written together."""
    return {_together(each.name): each.class_id + 1 for each in read_vocabulary("context-459")}


def _together(name: str) -> str:
    return normalised(name).replace(" ", "")


def _lines(path: Path) -> list[tuple[str, str]]:
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OvsegError(f"{path} cannot be read ({error}): get it again or remove it") from error
    parted = (line.rpartition(":") for line in lines if line.strip())
    return [(number.strip(), name.strip()) for number, _, name in parted]


def _check_numbers(path: Path) -> list[str]:
    """Refuse a list in which a class has another's number; note names that are spelt otherwise."""
    numbers = _context_numbers()
    notes = []
    for number, name in _lines(path):
        if not number.isdecimal() or int(number) == 0:
            continue
        if numbers.get(_together(name), int(number)) != int(number):
            raise OvsegError(
                f"{path}: {name} is {number}, and {numbers[_together(name)]} in the published"
                " labels; get labels.txt as it comes with trainval"
            )
        if _together(name) not in numbers:
            notes.append(f"{path.name}: {name!r} ({number}) is spelt otherwise here")
    return notes


def _check_short_list(path: Path) -> list[str]:
    """Say what of the list of 59 classes is no class, such as a header line."""
    wanted = {_together(each.name) for each in read_vocabulary("context-59")} | {"diningtable"}
    odd = [name for _, name in _lines(path) if _together(name) not in wanted]
    return [
        f"{path.name}: {name!r} is none of the 59 classes; the file is not used" for name in odd
    ]
