"""The drawing function of every thing, with its colors and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ovseg.storybook.drawing import Color, Pen
from ovseg.storybook.things import animals, home, places, travel
from ovseg.storybook.things import sky as air


@dataclass(frozen=True)
class Thing:
    """Drawing parameters of one category.

    Attributes:
        draw: Draws it with a pen in the given main color.
        colors: Names of its possible colors (keys of `drawing.COLORS`).
        pixels: Smallest and largest size of its 100 units, in pixels of a 160-pixel scene.
        tilt: Largest rotation in radians.
        glows: True if it keeps its brightness at night.
    """

    draw: Callable[[Pen, np.random.Generator, Color], None]
    colors: tuple[str, ...]
    pixels: tuple[float, float]
    tilt: float = 0.05
    glows: bool = False


_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_FUR = ("brown", "grey", "white", "black", "orange")
_WOODEN = ("brown", "white", "red", "green", "blue")

THINGS: dict[str, Thing] = {
    "house": Thing(
        places.house, ("white", "yellow", "red", "blue", "pink", "orange"), (46, 72), 0.02
    ),
    "tree": Thing(travel.tree, ("green", "green", "green", "orange", "yellow"), (46, 76), 0.04),
    "boat": Thing(travel.boat, ("red", "blue", "white", "brown", "green"), (34, 62), 0.12),
    "moon": Thing(air.moon, ("yellow", "white"), (30, 48), 0.5, glows=True),
    "sun": Thing(air.sun, ("yellow", "orange"), (32, 54), 0.4, glows=True),
    "cloud": Thing(air.cloud, ("white", "grey"), (38, 66), 0.03),
    "star": Thing(air.star, ("yellow", "white", "orange"), (18, 32), 0.4, glows=True),
    "fence": Thing(places.fence, ("white", "brown", "green"), (46, 80), 0.03),
    "car": Thing(travel.car, ("red", "blue", "yellow", "green", "white", "black"), (38, 64), 0.04),
    "dog": Thing(animals.dog, _FUR, (34, 54), 0.06),
    "cat": Thing(animals.cat, _FUR, (34, 54), 0.05),
    "bird": Thing(
        animals.bird, ("blue", "red", "yellow", "white", "green", "black"), (28, 44), 0.2
    ),
    "fish": Thing(
        animals.fish, ("orange", "blue", "red", "yellow", "green", "pink"), (28, 46), 0.3
    ),
    "flower": Thing(
        travel.flower, ("red", "yellow", "pink", "purple", "white", "blue"), (32, 52), 0.12
    ),
    "mushroom": Thing(travel.mushroom, ("red", "brown", "orange", "white"), (26, 44), 0.1),
    "kite": Thing(air.kite, _BRIGHT, (40, 62), 0.5),
    "balloon": Thing(air.balloon, _BRIGHT, (40, 60), 0.12),
    "bench": Thing(places.bench, _WOODEN, (40, 60), 0.03),
    "lamp": Thing(places.lamp, ("black", "green", "brown", "grey"), (48, 72), 0.03),
    "bridge": Thing(places.bridge, ("grey", "brown", "red"), (56, 84), 0.02),
    "windmill": Thing(places.windmill, ("white", "brown", "grey", "yellow"), (52, 78), 0.02),
    "rocket": Thing(air.rocket, ("red", "blue", "green", "orange", "purple"), (44, 68), 0.3),
    "umbrella": Thing(home.umbrella, _BRIGHT, (38, 60), 0.2),
    "ball": Thing(home.ball, _BRIGHT, (22, 38), 0.6),
    "train": Thing(travel.train, ("green", "blue", "red", "black"), (48, 74), 0.02),
    "apple": Thing(travel.apple, ("red", "green", "yellow"), (22, 36), 0.15),
    "chair": Thing(home.chair, _WOODEN, (40, 60), 0.04),
    "table": Thing(home.table, _WOODEN, (46, 70), 0.02),
    "clock": Thing(home.clock, ("red", "blue", "green", "yellow", "pink", "black"), (30, 48), 0.1),
    "rabbit": Thing(animals.rabbit, ("brown", "grey", "white", "black"), (34, 52), 0.06),
    "sheep": Thing(animals.sheep, ("white", "grey", "brown"), (36, 56), 0.05),
    "duck": Thing(animals.duck, ("yellow", "white", "brown", "grey"), (28, 46), 0.08),
    "snail": Thing(animals.snail, ("brown", "orange", "pink", "purple", "green"), (26, 44), 0.06),
    "butterfly": Thing(
        animals.butterfly, ("orange", "blue", "purple", "red", "pink", "yellow"), (28, 46), 0.5
    ),
    "castle": Thing(places.castle, ("grey", "white", "pink", "brown", "yellow"), (56, 82), 0.02),
    "tent": Thing(places.tent, _BRIGHT, (44, 68), 0.03),
    "bucket": Thing(home.bucket, ("red", "blue", "yellow", "green", "grey"), (26, 42), 0.08),
    "hat": Thing(home.hat, ("brown", "red", "blue", "black", "yellow", "green"), (30, 48), 0.15),
    "cup": Thing(home.cup, ("white", "blue", "red", "green", "yellow", "pink"), (26, 42), 0.05),
    "book": Thing(home.book, ("red", "blue", "green", "purple", "brown"), (28, 46), 0.1),
}
