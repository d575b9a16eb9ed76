"""The settings of the storybook: their layouts, times of day and things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ovseg.storybook import layouts
from ovseg.storybook.layouts import Layout
from ovseg.storybook.stuff import Canvas


@dataclass(frozen=True)
class Setting:
    """One kind of scene.

    Attributes:
        layout: Makes the regions and zones of a scene.
        times: Possible times of day; a repeated time is more frequent.
        things: Candidates for each zone, separated by spaces; a repeated word is more frequent.
    """

    layout: Callable[[Canvas, np.random.Generator], Layout]
    times: tuple[str, ...]
    things: dict[str, str]


_ALL_DAY = ("day", "day", "day", "dusk", "overcast", "night")
_DAYTIME = ("day", "day", "day", "dusk", "overcast")
_SKY = "cloud sun moon star bird "

SETTINGS: dict[str, Setting] = {
    "seaside": Setting(
        layouts.seaside,
        _ALL_DAY,
        {
            "air": (_SKY + "kite balloon"),
            "water": ("boat boat duck fish fish"),
            "ground": ("umbrella ball bucket hat chair castle book fish tent"),
        },
    ),
    "lake": Setting(
        layouts.lake,
        _ALL_DAY,
        {
            "air": (_SKY + "butterfly kite"),
            "water": ("boat boat duck duck fish fish bridge bridge"),
            "ground": ("bench tree bucket tent mushroom snail dog"),
        },
    ),
    "village": Setting(
        layouts.village,
        _ALL_DAY,
        {
            "air": (_SKY + "balloon"),
            "ground": (
                "house house tree fence car lamp bench "
                "cat dog train bridge windmill castle flower clock"
            ),
        },
    ),
    "farm": Setting(
        layouts.farm,
        _DAYTIME,
        {
            "air": (_SKY + "butterfly balloon"),
            "ground": (
                "windmill windmill sheep sheep rabbit duck fence "
                "fence tree train apple bucket hat dog house"
            ),
        },
    ),
    "meadow": Setting(
        layouts.meadow,
        _DAYTIME,
        {
            "air": (_SKY + "kite butterfly butterfly balloon"),
            "ground": (
                "flower flower mushroom mushroom snail snail rabbit "
                "apple tent ball bench sheep book umbrella tree"
            ),
        },
    ),
    "street": Setting(
        layouts.street,
        _ALL_DAY,
        {
            "air": (_SKY + "balloon"),
            "ground": ("car car lamp lamp bench cat dog umbrella clock train house ball hat tree"),
        },
    ),
    "winter": Setting(
        layouts.winter,
        _ALL_DAY,
        {
            "air": (_SKY + "kite"),
            "ground": ("house tree hat rabbit fence lamp tent bridge car cup rocket dog sheep"),
        },
    ),
    "desert": Setting(
        layouts.desert,
        _ALL_DAY,
        {
            "air": (_SKY + "rocket kite"),
            "ground": ("rocket castle tent snail train car bucket umbrella table"),
        },
    ),
    "room": Setting(
        layouts.room,
        ("day", "day", "evening"),
        {
            "air": ("balloon clock butterfly kite umbrella"),
            "ground": (
                "table table chair chair cup cup book book "
                "clock hat cat apple ball lamp rabbit flower rocket"
            ),
        },
    ),
    "night": Setting(
        layouts.night,
        ("night",),
        {
            "air": ("moon moon star star cloud rocket bird"),
            "ground": ("castle house windmill tent tree lamp cat rabbit bench"),
        },
    ),
}


# ---- things of a scene ---------------------------------------------------------------------------

MAX_THINGS = 8
_SINGLE = frozenset({"sun", "moon", "bridge", "castle", "train", "table"})
_BIG = frozenset({"house", "windmill", "fence", "tent", "car", "tree", "rocket", "bench", "lamp"})
_TIMES: dict[str, tuple[str, ...]] = {
    "sun": ("day", "dusk"),
    "moon": ("night", "dusk"),
    "star": ("night", "dusk"),
    "butterfly": ("day", "dusk", "overcast", "evening"),
}
_EVERYWHERE = (
    "apple ball bench book bridge bucket car castle cat chair clock cup dog duck fence flower hat "
    "lamp mushroom rabbit rocket sheep snail table tent train tree umbrella windmill house"
)


def choose_things(
    setting: Setting, time: str, rng: np.random.Generator
) -> list[tuple[str, str, int]]:
    """Choose the things in a scene.

    Returns:
        (category name, zone, count) triples: 2 to 6 kinds, 3 to 8 things in all.
    """
    total = int(rng.integers(4, MAX_THINGS + 1))
    choices: list[tuple[str, str, int]] = []
    names: set[str] = set()
    zones = [zone for zone in ("air", "water", "ground") if zone in setting.things]
    shares = np.array([{"air": 0.9, "water": 1.3, "ground": 2.0}[zone] for zone in zones])
    while total > 0:
        zone = zones[int(rng.choice(len(zones), p=shares / shares.sum()))]
        pool = setting.things[zone]
        if zone == "ground" and rng.random() < 0.3:
            pool = _EVERYWHERE
        words = pool.split()
        name = words[int(rng.integers(len(words)))]
        if name in names or time not in _TIMES.get(name, (time,)):
            continue
        names.add(name)
        count = 1
        if name not in _SINGLE:
            chances = (0.8, 0.2, 0.0) if name in _BIG else (0.62, 0.24, 0.14)
            count = min(total, 1 + int(rng.choice(3, p=chances)))
        choices.append((name, zone, count))
        total -= count
    return choices
