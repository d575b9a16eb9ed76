"""The words of the captions: nouns and plurals, adjectives that are true, places and times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovseg.storybook.categories import Category
from ovseg.storybook.scenes import Scene, Segment

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")

SETTING_PHRASES: dict[str, tuple[str, ...]] = {
    "seaside": ("at the seaside", "on the coast", "on the beach"),
    "lake": ("at the waterside", "by the water"),
    "village": ("in a village", "in the country"),
    "farm": ("on a farm", "in the country"),
    "meadow": ("in a meadow", "out in the open"),
    "street": ("in the street", "in town", "in the city"),
    "winter": ("in winter", "on a winter day", "on a cold day"),
    "desert": ("in the desert", "in a dry place"),
    "room": ("in a room", "inside a room", "indoors"),
    "night": ("in the dark", "out in the dark"),
}
TIME_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("on a clear day", "in the daytime", "on a bright day"),
    "dusk": ("at dusk", "in the evening", "at the end of the day"),
    "night": ("at night", "in the middle of the night", "on a dark night"),
    "overcast": ("on a grey day", "on a dull day", "in grey weather"),
    "evening": ("in the evening",),
}
_SKIES = {"day": "blue sky", "dusk": "evening sky", "night": "dark sky", "overcast": "grey sky"}
_STUFF_WORDS: dict[str, tuple[str, ...]] = {
    "sea": ("blue sea", "calm sea"),
    "grass": ("green grass", "soft grass"),
    "sand": ("pale sand", "warm sand"),
    "road": ("grey road", "long road"),
    "wall": ("tall wall",),
    "floor": ("clean floor",),
    "snow": ("white snow", "deep snow"),
    "mountain": ("bare mountain", "high mountain"),
    "field": ("golden field", "wide field"),
    "carpet": ("woven carpet", "patterned carpet"),
    "hedge": ("dark hedge", "green hedge"),
}


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """Return one of the options."""
    return options[int(rng.integers(len(options)))]


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plural(noun: str, category: Category) -> str:
    """Return the plural of a category's name, synonym or compound (inflects the last word)."""
    *front, head = noun.split(" ")
    if head == category.name:
        head = category.plural
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "es" if head.endswith(("s", "sh", "ch", "x")) else "s"
    return " ".join([*front, head])


def noun_for(category: Category, count: int, rng: np.random.Generator, *, canonical: float) -> str:
    """Return a noun for `count` of a category: its name with chance `canonical`, or a synonym."""
    noun = category.name
    others = (category.synonyms, category.compounds)
    if rng.random() > canonical:
        noun = pick(rng, others[int(rng.random() < 0.5)] or others[0] or others[1] or (noun,))
    return noun if count == 1 else plural(noun, category)


def adjectives_for(
    segments: Sequence[Segment], rng: np.random.Generator, *, color: float, size: float
) -> list[str]:
    """Return adjectives true of every segment; `color`, `size`: how likely each is used."""
    words = []
    for key, chance in (("size", size), ("color", color)):
        values = {segment.attributes.get(key, "") for segment in segments}
        value = values.pop() if len(values) == 1 else ""
        if value and rng.random() < chance:
            if value in ("small", "big") and rng.random() < 0.4:
                value = {"small": "little", "big": "large"}[value]
            words.append(value)
    return words


def place_of(segments: Sequence[Segment]) -> str:
    """Return where all segments are, as a phrase such as "on the sea"; empty if they differ."""
    places = {(s.attributes["zone"], s.attributes["on"]) for s in segments}
    if len(places) != 1:
        return ""
    zone, on = places.pop()
    if on in ("sky", "wall", "hedge", "mountain"):
        if on == "sky":
            return "in the sky" if zone == "air" else "against the sky"
        if zone == "air":
            if on == "wall" and segments[0].category.name == "clock":
                return "on the wall"
            return {"wall": "in front of the wall", "hedge": "above the hedge"}.get(
                on, "in front of the mountain"
            )
        return f"in front of the {on}"
    if zone == "air":
        return f"over the {on}"
    if on == "sea":
        return "in the sea" if segments[0].category.name in ("fish", "bridge") else "on the sea"
    return f"{'in' if on in ('snow', 'field') else 'on'} the {on}"


def neighbor_of(scene: Scene, segment: Segment) -> Segment | None:
    """Return the other segment of the category, if there is exactly one and it is close by."""
    same = [s for s in scene.segments if s.category is segment.category and s is not segment]
    if len(same) != 1:
        return None
    (y0, x0, y1, x1), (v0, u0, v1, u1) = box_of(segment), box_of(same[0])
    gap = max(x0, u0) - min(x1, u1), max(y0, v0) - min(y1, v1)
    return same[0] if max(gap) < 0.06 * scene.size else None


def box_of(segment: Segment) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of a segment in pixels, the last two exclusive."""
    rows = np.flatnonzero(segment.mask.any(1))
    columns = np.flatnonzero(segment.mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def stuff_noun(scene: Scene, category: Category, rng: np.random.Generator) -> str:
    """Return a noun for a stuff category, without an article."""
    if category.name == "wall" and scene.setting == "street" and rng.random() < 0.5:
        return "brick wall"
    if rng.random() < 0.35:
        if category.name == "sky":
            return _SKIES[scene.time]
        return pick(rng, _STUFF_WORDS[category.name])
    if category.name == "sky":
        return "sky"
    return noun_for(category, 1, rng, canonical=0.75)


def time_phrases(scene: Scene) -> tuple[str, ...]:
    """Return phrases for the time of day; indoors they leave out the weather."""
    if scene.setting == "room" and scene.time == "day":
        return ("in the daytime", "on a lazy day")
    return TIME_PHRASES[scene.time]
