"""What made-up pair tables are drawn from: nouns, ranks, gates and captions of a block of images.

    block = Block(Scale(pairs=1_320_000), 3)

Everything follows from the seed and the number of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bench.made_up.columns import ADJECTIVES, PLACES, STOP_NOUNS, lists, mixed, nullable, vocabulary
from ovseg.config.base import Config

BLOCK = 10_000
"""Images of a staging shard."""
CAPTIONS, PROPOSALS = 5, 10
PAIRS_AN_IMAGE = 11.2
OFFSET = 3.0
"""Of the Zipf-Mandelbrot law: the most frequent noun has 3 % of the mentions."""
SIDES = ((480, 640), (640, 480), (427, 640), (500, 375))

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Scale(Config):
    """How much is made.

    Attributes:
        dataset: its name in every relation.
        pairs: mined pairs; a twentieth of them in addition from labels and from ground-truth masks.
        masks: whether pairs have mask bytes, or one byte in their place.
        seed: of every draw.
        source: of the pairs of one staging stage.
    """

    dataset: str = "coco"
    pairs: int = 1_320_000
    masks: bool = True
    seed: int = 0
    source: str = "mined"

    @property
    def images(self) -> int:
        """Return the number of images."""
        return max(1, round(self.pairs / PAIRS_AN_IMAGE))

    @property
    def blocks(self) -> int:
        """Return the number of blocks of images."""
        return -(-self.images // BLOCK)


@lru_cache(maxsize=2)
def _pair_counts(scale: Scale) -> Ints:
    """Return the number of pairs of each image; they add up to `scale.pairs`."""
    rng = np.random.default_rng([scale.seed, 0])
    counts = 1 + rng.poisson(PAIRS_AN_IMAGE - 1, scale.images)
    while missing := scale.pairs - int(counts.sum()):
        places = rng.choice(scale.images, min(abs(missing), scale.images), replace=False)
        counts[places] = np.maximum(1, counts[places] + np.sign(missing))
    return counts


@lru_cache(maxsize=1)
def _noun_law(nouns: int) -> NDArray[np.float64]:
    """Return the cumulative probabilities of the nouns by rank."""
    weights = 1 / (np.arange(nouns) + 1 + OFFSET)
    return np.cumsum(weights) / weights.sum()


@dataclass
class Block:
    """The draws behind the rows of one block of images.

    Attributes:
        first, images: the range of image numbers.
        image: image of each pair, ascending, counted from `first`.
        noun: rank of its noun, distinct in an image.
        proposal, similarity, rank: of each pair; the rank among the image's nouns for the proposal.
        reason: why each pair is dropped: 1 with its image, 2 and 3 by a gate; 0 if it is kept.
        dropped: whether each image is.
    """

    scale: Scale
    number: int

    def __post_init__(self) -> None:
        counts = _pair_counts(self.scale)
        self.first = self.number * BLOCK
        counts = counts[self.first : self.first + BLOCK]
        self.images = len(counts)
        rng = self.rng(1)
        self.image = np.repeat(np.arange(self.images), counts)
        self.noun = _distinct_nouns(rng, self.image, len(vocabulary()))
        kinds = rng.random(self.images)
        self.dropped = kinds < 0.004
        self.fruitless = (kinds >= 0.004) & (kinds < 0.01)
        pairs = len(self.image)
        self.proposal = np.minimum(rng.geometric(0.22, pairs) - 1, PROPOSALS - 1)
        self.similarity = (0.24 + 0.03 * rng.standard_normal(pairs)).astype(np.float32)
        group = self.image * PROPOSALS + self.proposal
        order = np.lexsort((self.noun, -self.similarity, group))
        starts = np.flatnonzero(np.diff(group[order], prepend=-1))
        self.rank = np.empty(pairs, np.int64)
        self.rank[order] = 1 + np.arange(pairs) - np.repeat(starts, np.diff([*starts, pairs]))
        draw = rng.random(pairs)
        self.reason = np.select(
            [self.dropped[self.image], self.fruitless[self.image], draw < 0.2, draw < 0.28],
            [1, 2, 2, 3],
            0,
        )

    def rng(self, purpose: int) -> np.random.Generator:
        """Return the generator of draws for one purpose."""
        return np.random.default_rng([self.scale.seed, purpose, self.number])

    @property
    def ids(self) -> Ints:
        """Return the ids of the images."""
        return np.arange(self.first, self.first + self.images) * 5 + 139

    @property
    def sides(self) -> Ints:
        """Return height and width of the images, `(N, 2)`."""
        return np.array(SIDES)[mixed(self.ids, 7) % len(SIDES)]

    @property
    def pair_keys(self) -> Ints:
        """Return a number for each pair that no other pair has."""
        return (self.image + self.first) * len(vocabulary()) + self.noun

    @cached_property
    def mentions(self) -> Mentions:
        """Return the mentions of the block's nouns in its captions."""
        return Mentions(self)


def _distinct_nouns(rng: np.random.Generator, image: Ints, nouns: int) -> Ints:
    """Draw a noun for each pair, none twice in an image."""
    law = _noun_law(nouns)
    drawn = np.searchsorted(law, rng.random(len(image)))
    while True:
        key = image * nouns + drawn
        order = np.argsort(key, kind="stable")
        again = order[1:][np.diff(key[order]) == 0]
        if not len(again):
            return drawn[order]
        drawn[again] = np.searchsorted(law, rng.random(len(again)))


class Mentions:
    """The mentions in the captions of a block: those of its pairs, and some of stop nouns.

    Attributes:
        image, caption, pair, noun: of each mention, in the order of captions; pair is -1 and noun
            the number of a stop noun for a stop noun.
        start, length: its place in the text, in characters.
        surface: its text.
        texts, own_captions: of each caption with a mention; its image times `CAPTIONS` plus number.
        adjective, place: numbers of what describes it; -1 if nothing does.
    """

    def __init__(self, block: Block) -> None:
        rng, pairs = block.rng(2), len(block.image)
        in_image = np.arange(pairs) - np.repeat(*_runs(block.image))
        spoken = np.where(rng.random(block.images) < 0.1, CAPTIONS - 1, CAPTIONS)
        caption = in_image % spoken[block.image]
        again = np.flatnonzero(rng.random(pairs) < 0.45)
        stops = np.flatnonzero(rng.random(block.images) < 0.5)
        image = np.concatenate([block.image, block.image[again], stops])
        caption = np.concatenate(
            [caption, (caption[again] + 1) % spoken[block.image[again]], 0 * stops]
        )
        pair = np.concatenate([np.arange(pairs), again, np.full(len(stops), -1)])
        noun = np.concatenate(
            [block.noun, block.noun[again], rng.integers(0, len(STOP_NOUNS), len(stops))]
        )
        order = np.lexsort((pair, caption, image))
        self.image, self.caption = image[order], caption[order]
        self.pair, self.noun = pair[order], noun[order]
        draws = rng.random((2, len(order)))
        self.adjective = np.where(draws[0] < 0.25, self.noun % len(ADJECTIVES), -1)
        self.place = np.where(draws[1] < 0.2, (self.noun + 3 * self.image) % len(PLACES), -1)
        self.surface = pc.if_else(
            pa.array(self.pair >= 0),
            vocabulary().take(pa.array(np.where(self.pair >= 0, self.noun, 0))),
            STOP_NOUNS.take(pa.array(np.where(self.pair < 0, self.noun, 0))),
        )
        self._write()

    def _write(self) -> None:
        before = pc.fill_null(nullable(ADJECTIVES, self.adjective), "")
        after = pc.fill_null(nullable(PLACES, self.place), "")
        before = pc.binary_join_element_wise(before, pc.if_else(pc.equal(before, ""), "", " "), "")
        after = pc.binary_join_element_wise(pc.if_else(pc.equal(after, ""), "", " "), after, "")
        phrases = pc.binary_join_element_wise(before, self.surface, after, "")
        of_caption = self.image * CAPTIONS + self.caption
        step = pc.utf8_length(phrases).to_numpy() + len(" with a ")
        ends = np.cumsum(step)
        starts, sizes = _runs(of_caption)
        begun = (ends - step)[starts]
        self.start = 2 + ends - step - np.repeat(begun, sizes) + pc.utf8_length(before).to_numpy()
        self.length = pc.utf8_length(self.surface).to_numpy()
        self.own_captions = of_caption[starts]
        joined = pc.binary_join(lists(phrases, sizes), " with a ")
        self.texts = pc.binary_join_element_wise("A ", joined, ".", "")


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """Return the start and the length of each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return starts, np.diff(np.append(starts, len(values)))
