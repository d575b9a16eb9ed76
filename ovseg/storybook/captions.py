"""Captions of a scene, five each, and loose captions of single regions.

Captions are true (counts, colors and places come from the segments) and human: they leave things
out, use synonyms and compounds, and mention words such as picture, background or day that name
nothing in the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovseg.storybook.scenes import Scene, Segment
from ovseg.storybook.wording import (
    NUMBERS,
    SETTING_PHRASES,
    adjectives_for,
    box_of,
    neighbor_of,
    noun_for,
    pick,
    place_of,
    stuff_noun,
    time_phrases,
    with_article,
)

MAX_WORDS = 29
_LEADS = (
    "a picture of {}",
    "a drawing of {}",
    "an illustration of {}",
    "a scene with {}",
    "a view of {}",
    "a painting that shows {}",
    "this picture shows {}",
)
_REGION_LEADS = (
    "a photo of {}",
    "photo of {}",
    "a picture of {}",
    "picture of {}",
    "a close view of {}",
    "a drawing of {}",
    "image of {}",
)


def describe(scene: Scene, *, n: int = 5) -> tuple[str, ...]:
    """Write n different captions of a scene.

    Args:
        scene: The scene; its seed fixes the captions.
        n: Number of captions, at least 1.

    Returns:
        n captions, each a sentence of fewer than 30 words; together they mention most of what is
        visible.
    """
    return _Narrator(scene, np.random.default_rng([scene.seed, 5])).captions(n)


def describe_region(scene: Scene, index: int, rng: np.random.Generator) -> str:
    """Write a loose caption, like those of images on the web, for a crop around one segment.

    Args:
        scene: The scene.
        index: Position in `scene.segments`.
        rng: Chooses the wording.

    Returns:
        A few lower-case words that are true of the segment.
    """
    segment = scene.segments[index]
    category = segment.category
    if not category.isthing:
        return _describe_stuff(scene, segment, rng)
    noun = noun_for(category, 1, rng, canonical=0.72)
    style = rng.random()
    if style < 0.16:
        return noun
    adjectives = adjectives_for([segment], rng, color=0.5, size=0.3)
    phrase = with_article(" ".join([*adjectives, noun]))
    sibling = neighbor_of(scene, segment)
    if sibling is not None and style < 0.3:
        pair = [segment, sibling]
        color = adjectives_for(pair, rng, color=0.4, size=0.0)
        return " ".join(["two", *color, noun_for(category, 2, rng, canonical=0.8)])
    if style < 0.42:
        phrase = " ".join([*adjectives, noun])
    elif style < 0.66:
        phrase = f"{phrase} {place_of([segment])}".strip()
    elif style < 0.72:
        phrase = f"{phrase} {pick(rng, SETTING_PHRASES[scene.setting])}"
    if rng.random() < 0.35:
        phrase = pick(rng, _REGION_LEADS).format(phrase)
    return phrase


def loose_crop(scene: Scene, index: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crop loosely around a segment, including background and neighbors.

    Args:
        scene: The scene.
        index: Position in `scene.segments`.
        rng: Chooses margin and shift.

    Returns:
        (h, w, 3) uint8: 1.1 to 2.2 times the segment's box, shifted, clipped to the image.
    """
    rows, columns = np.nonzero(scene.segments[index].mask)
    spans: list[slice] = []
    for values in (rows, columns):
        low, high = int(values.min()), int(values.max()) + 1
        extent = max(high - low, 8)
        margin = rng.uniform(1.1, 2.2)
        middle = (low + high) / 2 + rng.uniform(-0.4, 0.4) * (margin - 1.0) * extent
        start = max(0, round(middle - margin * extent / 2))
        stop = min(scene.size, round(middle + margin * extent / 2))
        spans.append(slice(start, max(stop, start + 1)))
    return scene.image[spans[0], spans[1]].copy()


def _describe_stuff(scene: Scene, segment: Segment, rng: np.random.Generator) -> str:
    noun = stuff_noun(scene, segment.category, rng)
    things = [
        s
        for s in scene.segments
        if s.category.isthing and s.attributes["on"] == segment.category.name
    ]
    style = rng.random()
    if style < 0.2:
        return noun
    phrase = f"the {noun}"
    if style < 0.45 and things:
        thing = things[int(rng.integers(len(things)))]
        phrase = f"{phrase} with {with_article(noun_for(thing.category, 1, rng, canonical=0.8))}"
    elif style < 0.6:
        phrase = f"{phrase} {pick(rng, time_phrases(scene))}"
    if rng.random() < 0.4:
        phrase = pick(rng, _REGION_LEADS).format(phrase)
    return phrase


# ---- sentences -----------------------------------------------------------------------------------


class _Narrator:
    """Writes the captions of one scene; each covers what earlier ones did not mention."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene = scene
        self.rng = rng
        groups: dict[str, list[Segment]] = {}
        for segment in scene.segments:
            if segment.category.isthing:
                groups.setdefault(segment.category.name, []).append(segment)
        self.groups = sorted(groups.values(), key=lambda g: -sum(int(s.mask.sum()) for s in g))
        self.stuff = [s for s in scene.segments if not s.category.isthing]
        self.mentions: dict[str, int] = {s.category.name: 0 for s in scene.segments}

    def captions(self, n: int) -> tuple[str, ...]:
        sentences: list[str] = []
        while len(sentences) < n:
            before = dict(self.mentions)
            sentence = self._sentence()
            if sentence in sentences or len(sentence.split()) > MAX_WORDS:
                self.mentions = before
                continue
            sentences.append(sentence)
        return tuple(sentences)

    def _sentence(self) -> str:
        rng = self.rng
        count = min(len(self.groups), int(rng.choice(3, p=(0.2, 0.5, 0.3))) + 1)
        groups = self._choose(count)
        if not groups:
            body = f"the {self._least_mentioned_stuff()}"
        elif len(groups) == 1:
            body = self._phrase(groups[0], place=True)
        elif len(groups) == 2 and rng.random() < 0.6:
            body = self._pair(groups[0], groups[1])
        else:
            phrases = [self._phrase(g, place=False) for g in groups]
            body = f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        tail = self._tail(body)
        style = rng.random()
        if style < 0.3:
            body = pick(rng, _LEADS).format(body)
        elif style < 0.45 and groups:
            verb = "are" if len(groups[0]) > 1 else "is"
            body = f"there {verb} {body}"
        sentence = f"{body} {tail}".strip()
        return sentence[0].upper() + sentence[1:] + "."

    def _choose(self, count: int) -> list[list[Segment]]:
        """Return the least mentioned groups, in random order among equals."""
        order = sorted(
            self.groups,
            key=lambda g: (self.mentions[g[0].category.name], self.rng.random()),
        )
        return order[:count]

    def _phrase(self, group: list[Segment], *, place: bool) -> str:
        category, rng = group[0].category, self.rng
        self.mentions[category.name] += 1
        adjectives = adjectives_for(group, rng, color=0.42, size=0.22)
        noun = noun_for(category, len(group), rng, canonical=0.62)
        words = " ".join([*adjectives, noun])
        if len(group) > 1:
            words = f"{NUMBERS[len(group)]} {words}"
        elif category.name in ("sun", "moon") and not adjectives and noun == category.name:
            words = f"the {noun}"
        else:
            words = with_article(words)
        where = place_of(group) if place else ""
        if where:
            self.mentions[group[0].attributes["on"]] += 1
        return f"{words} {where}".strip()

    def _pair(self, first: list[Segment], second: list[Segment]) -> str:
        """Describe two groups, with the relation between them if a simple one holds."""
        rng = self.rng
        relation = self._relation(first, second)
        if relation and rng.random() < 0.75:
            a, b = self._phrase(first, place=False), self._phrase(second, place=False)
            return f"{a} {relation} {b}"
        where, other = place_of(first), place_of(second)
        if where and where == other:
            a, b = self._phrase(first, place=False), self._phrase(second, place=True)
            return f"{a} and {b}"
        a, b = self._phrase(first, place=True), self._phrase(second, place=rng.random() < 0.6)
        return f"{a} and {b}"

    def _relation(self, first: list[Segment], second: list[Segment]) -> str:
        if len(first) > 1 or len(second) > 1:
            return ""
        (y0, x0, y1, x1), (v0, u0, v1, u1) = box_of(first[0]), box_of(second[0])
        across = min(x1, u1) - max(x0, u0)
        down = min(y1, v1) - max(y0, v0)
        ground = "air" not in (first[0].attributes["zone"], second[0].attributes["zone"])
        if across > 0.3 * min(x1 - x0, u1 - u0):
            if y1 <= v0 + 3:
                return pick(self.rng, ("above", "over")) if not ground else ""
            if down > 0 and ground and y1 > v1 + 2:
                return "in front of"
            if down > 0 and ground and v1 > y1 + 2:
                return "behind"
        if ground and abs(y1 - v1) < 0.12 * self.scene.size:
            if 0 <= -across < 0.15 * self.scene.size:
                return pick(self.rng, ("next to", "beside", "near"))
            return "to the left of" if x1 <= u0 else "to the right of" if x0 >= u1 else ""
        return ""

    def _least_mentioned_stuff(self) -> str:
        name = min(self.stuff, key=lambda s: (self.mentions[s.category.name], self.rng.random()))
        self.mentions[name.category.name] += 1
        return stuff_noun(self.scene, name.category, self.rng)

    def _tail(self, body: str) -> str:
        """Return where or when it is, or what is behind it."""
        rng, style = self.rng, self.rng.random()
        if style < 0.16 and " the " not in body:
            return pick(rng, SETTING_PHRASES[self.scene.setting])
        if style < 0.32:
            return pick(rng, time_phrases(self.scene))
        if style < 0.72:
            noun = self._least_mentioned_stuff()
            head = noun.split(" ")[-1]
            if head == "sky":
                return f"under the {noun}" if "sky" not in body else ""
            if " the " + head in body:
                return ""
            if head in ("wall", "mountain", "hedge", "range", "peak"):
                return f"with the {noun} in the background"
            options = ["with the {} in view"] if " with " not in body else []
            options += ["and the {}"] if " and " not in body else []
            options += ["near the {}"] if head in ("sea", "ocean", "road", "field") else []
            return pick(rng, options).format(noun) if options else ""
        return ""
