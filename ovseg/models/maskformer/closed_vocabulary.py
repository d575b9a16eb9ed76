"""Map a network's own classes to a benchmark's by name: the supervised baseline.

A closed-vocabulary network gives a probability for each of its own classes. If one of them has the
name of a requested class, or a listed synonym of it, its probability goes to that class; a class
that the network does not know gets 0.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from ovseg.data.benchmarks.vocabulary import (
    normalized,
    read_vocabulary,
    vocabulary_names,
    with_synonyms,
)
from ovseg.errors import OvsegError

log = logging.getLogger(__name__)
SHOWN = 8  # names in a message


@dataclass(frozen=True, kw_only=True)
class ClosedVocabulary:
    """The mapping from a network's classes to the requested ones.

    Attributes:
        own: the network's M classes.
        classes: the K requested classes.
        places: pairs of indices into `own` and `classes`, in order.
    """

    own: tuple[str, ...]
    classes: tuple[str, ...]
    places: tuple[tuple[int, int], ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The requested classes that the network does not know."""
        matched = {place for _, place in self.places}
        return tuple(name for place, name in enumerate(self.classes) if place not in matched)

    def probabilities(self, p_qm: Tensor) -> Tensor:
        """Map the network's class probabilities `(Q, M)` to the requested classes, `(Q, K)`.

        A network's classes exclude each other, so several that map to one class add up.
        """
        p_qk = p_qm.new_zeros(len(p_qm), len(self.classes))
        for own, place in self.places:
            p_qk[:, place] += p_qm[:, own]
        return p_qk

    def p_object(self, p_qm: Tensor) -> Tensor:
        """Return the probability `(Q,)` of any requested class; each own class counts once."""
        return p_qm[:, sorted({own for own, _ in self.places})].sum(dim=-1)


def closed_vocabulary(
    own: Sequence[str], classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> ClosedVocabulary:
    """Match a network's classes with the requested ones.

    Args:
        own: M names; one with commas holds several words.
        classes: K names, likewise.
        synonyms: further words for requested classes, by name.

    Returns:
        The mapping: a class of the network goes to the class with the same whole name or, if there
        is none, to every class with which it shares a word.

    Raises:
        OvsegError: if no class matches.
    """
    requested = with_synonyms(classes, synonyms or {})
    by_name = {normalized(each.name): each.class_id for each in requested}
    places = []
    for index, each in enumerate(with_synonyms(own, {})):
        whole = by_name.get(normalized(each.name))
        if whole is None:
            shared = [other.class_id for other in requested if other.words & each.words]
        else:
            shared = [whole]
        places += [(index, place) for place in shared]
    vocabulary = ClosedVocabulary(own=tuple(own), classes=tuple(classes), places=tuple(places))
    if len(vocabulary.unknown) == len(classes):
        raise OvsegError(
            f"none of the network's {len(own)} classes ({_few(own)}) is requested"
            f" ({_few(classes)}): use a network trained on them, or one with class embeddings"
        )
    return vocabulary


@lru_cache(maxsize=16)
def benchmark_vocabulary(
    own: tuple[str, ...], classes: tuple[str, ...], benchmark: str
) -> ClosedVocabulary:
    """Match classes using a benchmark's listed synonyms, and warn once about unknown ones."""
    synonyms: Mapping[str, Sequence[str]] = {}
    if benchmark in vocabulary_names():
        synonyms = {each.name: each.synonyms for each in read_vocabulary(benchmark)}
    vocabulary = closed_vocabulary(own, classes, synonyms)
    if vocabulary.unknown:
        log.warning(
            "%d of %d classes are unknown to the network and get probability 0: %s",
            len(vocabulary.unknown),
            len(classes),
            _few(vocabulary.unknown),
        )
    return vocabulary


def _few(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
