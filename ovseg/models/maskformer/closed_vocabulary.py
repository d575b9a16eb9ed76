"""A network's own classes as those of a benchmark, by name: the supervised reference line.

A network with a closed vocabulary says how likely each of its own classes is. Where one of them has
the name of a class that is asked for, or a listed synonym of it, its probability is that class's; a
class that the network does not know gets 0.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from ovseg.data.benchmarks.vocabulary import (
    normalised,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)
from ovseg.errors import OvsegError

log = logging.getLogger(__name__)
SHOWN = 8  # names in a message


@dataclass(frozen=True, kw_only=True)
class ClosedVocabulary:
    """Which of a network's classes stand for which of those asked for.

    Attributes:
        own: the network's M classes.
        classes: the K classes asked for.
        places: pairs of indices, of `own` and of `classes`, in order.
    """

    own: tuple[str, ...]
    classes: tuple[str, ...]
    places: tuple[tuple[int, int], ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The classes asked for that the network does not know."""
        known = {place for _, place in self.places}
        return tuple(name for place, name in enumerate(self.classes) if place not in known)

    def probabilities(self, p_qm: Tensor) -> Tensor:
        """The network's class probabilities `(Q, M)` as those asked for, `(Q, K)`.

        The classes of a network exclude each other, so several that are one class add up.
        """
        asked = p_qm.new_zeros(len(p_qm), len(self.classes))
        for own, place in self.places:
            asked[:, place] += p_qm[:, own]
        return asked

    def p_object(self, p_qm: Tensor) -> Tensor:
        """How likely a proposal is any class asked for, `(Q,)`: each own class counts once."""
        return p_qm[:, sorted({own for own, _ in self.places})].sum(dim=-1)


def closed_vocabulary(
    own: Sequence[str], classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> ClosedVocabulary:
    """Match a network's classes with those asked for.

    Args:
        own: M names; one with commas holds several words.
        classes: K names, likewise.
        synonyms: further words for classes asked for, by name.

    Returns:
        A class of the network goes to the class of its whole name; without one, to every class it
        shares a word with.

    Raises:
        OvsegError: none matches.
    """
    asked = with_synonyms(classes, synonyms or {})
    by_name = {normalised(each.name): each.class_id for each in asked}
    places = []
    for index, each in enumerate(with_synonyms(own, {})):
        whole = by_name.get(normalised(each.name))
        shared = [c.class_id for c in asked if c.words & each.words] if whole is None else [whole]
        places += [(index, place) for place in shared]
    found = ClosedVocabulary(own=tuple(own), classes=tuple(classes), places=tuple(places))
    if len(found.unknown) == len(classes):
        raise OvsegError(
            f"the network's {len(own)} classes ({_few(own)}) are none of those asked for"
            f" ({_few(classes)}): take a network trained on them, or one with class embeddings"
        )
    return found


@lru_cache(maxsize=16)
def benchmark_vocabulary(
    own: tuple[str, ...], classes: tuple[str, ...], benchmark: str
) -> ClosedVocabulary:
    """As `closed_vocabulary` with a benchmark's listed synonyms; says once what is not known."""
    listed: Mapping[str, Sequence[str]] = {}
    if benchmark in vocabulary_names():
        listed = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    found = closed_vocabulary(own, classes, listed)
    if found.unknown:
        log.warning(
            "%d of %d classes are unknown to the network and get probability 0: %s",
            len(found.unknown),
            len(classes),
            _few(found.unknown),
        )
    return found


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
