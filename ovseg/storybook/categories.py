"""The categories of the storybook: their names, plurals, synonyms, compounds and seen/unseen split.

A name belongs to only one category: synonyms and compounds never repeat another category's name, so
a caption's noun can be traced back to the object in the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Category:
    """One class of the storybook.

    Attributes:
        id: 1-based category id, as written to semantic maps (0 is unlabeled).
        name: Everyday singular noun, unique among categories.
        isthing: True for countable things, False for stuff (one segment per scene).
        plural: Plural of the name.
        synonyms: Other singular nouns that captions use for it.
        compounds: Compounds whose head is the name or a synonym, such as "picket fence".
        color: RGB in 0..255 for label maps and palettes.
    """

    id: int
    name: str
    isthing: bool
    plural: str
    synonyms: tuple[str, ...]
    compounds: tuple[str, ...]
    color: tuple[int, int, int]


# name, plural, synonyms, compounds
_THINGS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("house", "houses", ("cottage", "home"), ("country house", "family home")),
    ("tree", "trees", (), ("forest tree", "shade tree")),
    ("boat", "boats", ("ship",), ("sail boat", "toy boat")),
    ("moon", "moons", (), ("crescent moon",)),
    ("sun", "suns", (), ()),
    ("cloud", "clouds", (), ("rain cloud", "cotton cloud")),
    ("star", "stars", (), ("evening star",)),
    ("fence", "fences", (), ("picket fence", "garden fence")),
    ("car", "cars", ("automobile",), ("family car", "toy car")),
    ("dog", "dogs", ("puppy",), ("pet dog",)),
    ("cat", "cats", ("kitten",), ("pet cat",)),
    ("bird", "birds", (), ("song bird",)),
    ("fish", "fish", (), ("reef fish",)),
    ("flower", "flowers", ("blossom",), ("garden flower", "wild flower")),
    ("mushroom", "mushrooms", ("toadstool",), ("forest mushroom",)),
    ("kite", "kites", (), ("paper kite",)),
    ("balloon", "balloons", (), ("party balloon",)),
    ("bench", "benches", (), ("park bench", "garden bench")),
    ("lamp", "lamps", ("lantern",), ("street lamp",)),
    ("bridge", "bridges", (), ("stone bridge",)),
    ("windmill", "windmills", (), ("country windmill",)),
    ("rocket", "rockets", ("spaceship",), ("space rocket", "toy rocket")),
    ("umbrella", "umbrellas", ("parasol",), ("beach umbrella",)),
    ("ball", "balls", (), ("beach ball", "toy ball")),
    ("train", "trains", ("locomotive",), ("steam train", "toy train")),
    ("apple", "apples", (), ("orchard apple",)),
    ("chair", "chairs", (), ("kitchen chair",)),
    ("table", "tables", (), ("kitchen table",)),
    ("clock", "clocks", (), ("alarm clock",)),
    ("rabbit", "rabbits", ("bunny", "hare"), ("pet rabbit",)),
    ("sheep", "sheep", ("lamb",), ("farm sheep",)),
    ("duck", "ducks", ("duckling",), ("pond duck",)),
    ("snail", "snails", (), ("garden snail",)),
    ("butterfly", "butterflies", (), ("garden butterfly",)),
    ("castle", "castles", ("fortress",), ("stone castle", "fairy castle")),
    ("tent", "tents", (), ("circus tent", "camping tent")),
    ("bucket", "buckets", ("pail",), ("water bucket",)),
    ("hat", "hats", (), ("straw hat", "party hat")),
    ("cup", "cups", ("mug",), ("tea cup", "coffee cup")),
    ("book", "books", (), ("story book", "picture book")),
)

_STUFF: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("sky", "skies", (), ("evening sky",)),
    ("sea", "seas", ("ocean",), ("open sea",)),
    ("grass", "grass", ("lawn",), ("meadow grass",)),
    ("sand", "sand", (), ("beach sand",)),
    ("road", "roads", (), ("country road",)),
    ("wall", "walls", (), ()),
    ("floor", "floors", (), ()),
    ("snow", "snow", (), ("winter snow",)),
    ("mountain", "mountains", (), ("mountain range",)),
    ("field", "fields", (), ("wheat field", "corn field")),
    ("carpet", "carpets", ("rug",), ()),
    ("hedge", "hedges", (), ("garden hedge",)),
)


def _palette(index: int) -> tuple[int, int, int]:
    """Return the color of category id `index`: its bits spread over the channels, as in VOC."""
    red = green = blue = 0
    value = index
    for shift in range(7, -1, -1):
        red |= (value & 1) << shift
        green |= ((value >> 1) & 1) << shift
        blue |= ((value >> 2) & 1) << shift
        value >>= 3
    return red, green, blue


CATEGORIES: tuple[Category, ...] = tuple(
    Category(
        id=index,
        name=name,
        isthing=index <= len(_THINGS),
        plural=plural,
        synonyms=synonyms,
        compounds=compounds,
        color=_palette(index),
    )
    for index, (name, plural, synonyms, compounds) in enumerate(_THINGS + _STUFF, start=1)
)

BY_NAME: dict[str, Category] = {category.name: category for category in CATEGORIES}


def split(seed: int = 0) -> tuple[frozenset[str], frozenset[str]]:
    """Split the category names into seen (masks may be trained on) and unseen (captions only).

    Args:
        seed: Number of the split; the same seed gives the same split in every process.

    Returns:
        (seen, unseen): disjoint and complete; unseen holds a third of the things and two or three
        kinds of stuff. The sky, which is in most scenes, is always seen.
    """
    rng = np.random.default_rng([seed, 20])
    things = [category.name for category in CATEGORIES if category.isthing]
    stuff = [category.name for category in CATEGORIES if not category.isthing]
    unseen = {things[i] for i in rng.permutation(len(things))[: len(things) // 3]}
    unseen |= {stuff[i] for i in rng.permutation(len(stuff))[: len(stuff) // 4]} - {"sky"}
    return frozenset(BY_NAME) - unseen, frozenset(unseen)
