"""Work that several segmentors share on one image: proposals and crops, made once.

    with reusing():
        for image in images:
            for segmentor in segmentors:
                segmentor.segment(image)

Segmentors that differ in CLIP's weights alone propose the same masks and cut out the same regions.
Inside `reusing`, the last result for each setting is kept and returned if the same objects (not
equal ones) are asked for again; results are the same bytes as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

Kept = dict[Hashable, tuple[tuple[object, ...], Any]]
"""Setting to the objects that were asked for last, and the result for them."""

_kept: ContextVar[Kept | None] = ContextVar("kept", default=None)


@contextmanager
def reusing() -> Iterator[None]:
    """Keep the last result for each setting, in this thread and block."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def reused(setting: Hashable, objects: tuple[object, ...], make: Callable[[], T]) -> T:
    """Return what `make` returned the last time for these objects, or call it.

    Args:
        setting: everything else that the result depends on.
        objects: an image, or an image and its masks; they are compared by identity and must not be
            changed in place.
        make: computes the result.
    """
    kept = _kept.get()
    if kept is None:
        return make()
    last, result = kept.get(setting, ((), None))
    if len(last) != len(objects) or any(a is not b for a, b in zip(last, objects)):
        result = make()
        kept[setting] = (objects, result)
    made: T = result
    return made
