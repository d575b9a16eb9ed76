"""Captions: true counts, colours and places, different wordings, crops of what they speak about."""

import functools
import re

import numpy as np
import pytest

from ovseg.storybook.captions import describe, describe_region, loose_crop
from ovseg.storybook.categories import BY_NAME, CATEGORIES, Category
from ovseg.storybook.drawing import COLORS
from ovseg.storybook.scenes import Scene, draw_scene
from ovseg.storybook.wording import plural

_NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_SIZES = {"small": "small", "little": "small", "big": "big", "large": "big"}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in range(100)]


def _forms(category: Category, count: int) -> list[str]:
    nouns = [category.name, *category.synonyms, *category.compounds]
    return nouns if count == 1 else [plural(noun, category) for noun in nouns]


@functools.cache
def _claim_patterns(category: Category) -> tuple[tuple[int, re.Pattern[str]], ...]:
    words = "|".join([*COLORS, *_SIZES])
    patterns = []
    for number, count in _NUMBERS.items():
        forms = "|".join(_forms(category, count))
        text = rf"\b{number}((?: (?:{words}))*) (?:{forms})(?= |,|\.|$)"
        patterns.append((count, re.compile(text)))
    return tuple(patterns)


def _claims(text: str, category: Category) -> list[tuple[int, list[str]]]:
    """(count, adjectives) for every counted mention of a thing category in a caption."""
    return [
        (count, match.split())
        for count, pattern in _claim_patterns(category)
        for match in pattern.findall(text)
    ]


def test_captions_are_fixed_different_and_short(scenes: list[Scene]) -> None:
    for scene in scenes:
        captions = describe(scene)
        assert captions == describe(scene)
        assert len(set(captions)) == 5
        for caption in captions:
            assert len(caption.split()) < 30
            assert caption[0].isupper() and caption.endswith(".")
            assert "  " not in caption and "{" not in caption


def test_counts_colors_and_sizes_are_true(scenes: list[Scene]) -> None:
    checked = colored = 0
    for scene in scenes:
        for caption in describe(scene):
            for category in CATEGORIES:
                if not category.isthing:
                    continue
                members = [s for s in scene.segments if s.category is category]
                for count, adjectives in _claims(caption.lower(), category):
                    assert count == len(members), (scene.seed, caption)
                    checked += 1
                    for word in adjectives:
                        key = "size" if word in _SIZES else "color"
                        value = _SIZES.get(word, word)
                        assert all(m.attributes.get(key) == value for m in members), caption
                        colored += key == "color"
    assert checked > 700 and colored > 150


def test_places_are_true(scenes: list[Scene]) -> None:
    for scene in scenes:
        names = {segment.category.name for segment in scene.segments}
        text = " ".join(describe(scene)).lower()
        for category in CATEGORIES:
            if category.isthing:
                continue
            for word in (category.name, *category.synonyms):
                said = re.search(rf"\bthe (?:\w+ )?{word}\b", text)
                assert not said or category.name in names, (scene.seed, word)


def test_nothing_absent_is_named(scenes: list[Scene]) -> None:
    for scene in scenes:
        names = {segment.category.name for segment in scene.segments}
        text = " ".join(describe(scene)).lower()
        for category in CATEGORIES:
            if category.isthing and category.name not in names:
                words = [category.name, category.plural, *category.synonyms]
                for word in words:
                    # "picture book" and the like have their own head; nothing else may name it
                    assert not re.search(rf"\b{word}\b", text), (scene.seed, word)


def test_most_of_the_scene_is_mentioned(scenes: list[Scene]) -> None:
    mentioned = []
    for scene in scenes:
        text = " ".join(describe(scene)).lower()
        for category in {segment.category for segment in scene.segments}:
            forms = (category.name, category.plural, *category.synonyms)
            mentioned.append(any(form in text for form in forms))
    assert np.mean(mentioned) > 0.9


def test_captions_vary_in_kind(scenes: list[Scene]) -> None:
    text = " ".join(" ".join(describe(scene)) for scene in scenes).lower()
    for words in ("two", "picture of", "in the background", "in front of", "next to", "at night"):
        assert words in text
    for word in ("scene", "day", "view"):
        assert re.search(rf"\b{word}\b", text)
    compounds = [c for category in CATEGORIES for c in category.compounds if c in text]
    synonyms = [s for category in CATEGORIES for s in category.synonyms if s in text]
    assert len(compounds) > 25 and len(synonyms) > 12


def test_asks_for_any_number_of_captions(scenes: list[Scene]) -> None:
    assert len(describe(scenes[0], n=1)) == 1
    assert len(set(describe(scenes[0], n=9))) == 9


def test_region_captions_name_their_segment(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    canonical = total = 0
    for scene in scenes:
        for index, segment in enumerate(scene.segments):
            category = segment.category
            text = describe_region(scene, index, rng)
            forms = [form for count in (1, 2) for form in _forms(category, count)]
            # adjectives may stand where a stuff compound's modifier would, so heads are enough
            heads = {form.split()[-1] for form in forms}
            assert heads & set(text.split()), (category.name, text)
            total += 1
            canonical += bool({category.name, category.plural} & set(text.split()))
            if category.isthing:
                for color in COLORS:
                    if re.search(rf"\b{color} (?:\w+ )?{category.name}\b", text):
                        assert segment.attributes["color"] == color, text
    assert canonical / total > 0.75


def test_loose_crop_holds_the_segment(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    for scene in scenes[:40]:
        for index, segment in enumerate(scene.segments):
            crop = loose_crop(scene, index, rng)
            rows, columns = np.nonzero(segment.mask)
            assert crop.dtype == np.uint8 and crop.shape[2] == 3
            height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
            assert 0.5 * height <= crop.shape[0] <= max(2.3 * height, 20)
            assert 0.5 * width <= crop.shape[1] <= max(2.3 * width, 20)


def test_plurals() -> None:
    assert plural("picket fence", BY_NAME["fence"]) == "picket fences"
    assert plural("bunny", BY_NAME["rabbit"]) == "bunnies"
    assert plural("fortress", BY_NAME["castle"]) == "fortresses"
    assert plural("farm sheep", BY_NAME["sheep"]) == "farm sheep"
    assert plural("park bench", BY_NAME["bench"]) == "park benches"
