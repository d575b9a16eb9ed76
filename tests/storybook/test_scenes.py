"""Scenes: the same pixels everywhere, segments that tile the image, a catalogue without doubles."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from ovseg.storybook.categories import BY_NAME, CATEGORIES, split
from ovseg.storybook.drawing import COLORS, Pen
from ovseg.storybook.scenery import SETTINGS
from ovseg.storybook.scenes import MIN_VISIBLE, Scene, draw_scene
from ovseg.storybook.stuff import TEXTURES, Canvas
from ovseg.storybook.things.registry import THINGS


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(seed) for seed in range(160)]


def _digest(seed: int) -> str:
    scene = draw_scene(seed)
    sha = hashlib.sha256(scene.image.tobytes())
    for segment in scene.segments:
        sha.update(segment.mask.tobytes())
        sha.update(segment.category.name.encode())
    return sha.hexdigest()


def test_same_pixels_in_another_process() -> None:
    code = (
        "import hashlib\n"
        "from ovseg.storybook.scenes import draw_scene\n"
        "for seed in (3, 20000007):\n"
        "    scene = draw_scene(seed)\n"
        "    sha = hashlib.sha256(scene.image.tobytes())\n"
        "    for segment in scene.segments:\n"
        "        sha.update(segment.mask.tobytes())\n"
        "        sha.update(segment.category.name.encode())\n"
        "    print(sha.hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [_digest(3), _digest(20000007)]
    assert _digest(3) != _digest(4)


def test_drawing_needs_no_heavy_import() -> None:
    code = (
        "import sys, ovseg.storybook.world\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'spacy', 'scipy', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_segments_tile_the_image(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.image.shape == (160, 160, 3)
        assert scene.image.dtype == np.uint8
        times_covered = np.sum([segment.mask for segment in scene.segments], axis=0)
        assert (times_covered == 1).all(), scene.seed
        assert [segment.id for segment in scene.segments] == list(range(1, len(scene.segments) + 1))


def test_every_segment_shows_enough(scenes: list[Scene]) -> None:
    for scene in scenes:
        for segment in scene.segments:
            assert segment.mask.sum() >= MIN_VISIBLE, (scene.seed, segment.category.name)


def test_stuff_is_one_segment_a_scene(scenes: list[Scene]) -> None:
    for scene in scenes:
        stuff = [s.category.name for s in scene.segments if not s.category.isthing]
        assert len(stuff) == len(set(stuff))
        assert stuff


def test_number_and_size_of_things(scenes: list[Scene]) -> None:
    counts, extents = [], []
    for scene in scenes:
        things = [s for s in scene.segments if s.category.isthing]
        counts.append(len(things))
        for thing in things:
            rows, columns = np.nonzero(thing.mask)
            extents.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert min(counts) >= 2 and max(counts) <= 8
    assert np.mean([25 <= extent <= 75 for extent in extents]) > 0.85


def test_every_category_occurs_often_enough(scenes: list[Scene]) -> None:
    for category in CATEGORIES:
        share = np.mean([any(s.category is category for s in scene.segments) for scene in scenes])
        assert share > 0.02, category.name
    assert {scene.setting for scene in scenes} == set(SETTINGS)


def test_masks_follow_what_was_painted(scenes: list[Scene]) -> None:
    """Away from its edge, a bright yellow sun by day is yellow inside its mask, the sky is not."""
    found = 0
    for scene in scenes:
        for segment in scene.segments:
            if segment.category.name != "sun" or scene.time != "day":
                continue
            if segment.attributes["color"] != "yellow" or segment.attributes["on"] != "sky":
                continue
            sky = next(s for s in scene.segments if s.category.name == "sky")
            red_over_blue = scene.image[..., 0].astype(int) - scene.image[..., 2]
            assert np.median(red_over_blue[segment.mask]) > 80
            assert np.median(red_over_blue[sky.mask]) < 20
            found += 1
    assert found >= 3


@pytest.mark.parametrize("size", [64, 96, 224])
def test_other_sizes(size: int) -> None:
    scene = draw_scene(11, size=size)
    assert scene.image.shape == (size, size, 3)
    assert (
        np.sum([s.mask for s in scene.segments], axis=0).tolist() == np.ones((size, size)).tolist()
    )


def test_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="seed=-1"):
        draw_scene(-1)
    with pytest.raises(ValueError, match="size=8"):
        draw_scene(0, size=8)


@pytest.mark.parametrize("name", sorted(THINGS))
def test_every_thing_is_drawable_in_every_color(name: str) -> None:
    thing = THINGS[name]
    assert BY_NAME[name].isthing
    for index, color in enumerate(thing.colors):
        rng = np.random.default_rng(index)
        pen = Pen(pixels=60.0, flip=bool(index % 2), angle=thing.tilt)
        thing.draw(pen, rng, COLORS[color])
        sprite = pen.sprite()
        assert max(sprite.shape[:2]) <= 90
        assert sprite.shape[2] == 4
        assert (sprite[..., 3] >= 0.5).sum() > 300
        assert sprite[..., :3].max() <= 255.0


@pytest.mark.parametrize("name", sorted(TEXTURES))
def test_every_texture_is_drawable(name: str) -> None:
    color = TEXTURES[name](Canvas(size=80, time="day"), np.random.default_rng(1))
    assert color.shape == (80, 80, 3)
    assert np.isfinite(color).all()
    assert color.std() > 1.0  # textured, not flat


def test_catalogue_has_no_ambiguous_word() -> None:
    assert [category.id for category in CATEGORIES] == list(range(1, len(CATEGORIES) + 1))
    assert sum(c.isthing for c in CATEGORIES) >= 32
    assert sum(not c.isthing for c in CATEGORIES) >= 8
    assert {c.name for c in CATEGORIES if c.isthing} == set(THINGS)
    assert len({c.color for c in CATEGORIES}) == len(CATEGORIES)
    owner: dict[str, str] = {}
    for category in CATEGORIES:
        for word in {category.name, category.plural, *category.synonyms, *category.compounds}:
            assert owner.setdefault(word, category.name) == category.name, word
        for compound in category.compounds:
            others = set(compound.split()) & (set(BY_NAME) - {category.name})
            assert not others, compound


def test_split_is_fixed_disjoint_and_complete() -> None:
    seen, unseen = split()
    assert (seen, unseen) == split(0)
    assert seen | unseen == set(BY_NAME)
    assert not seen & unseen
    things = sum(category.isthing for category in CATEGORIES)
    unseen_things = [name for name in unseen if BY_NAME[name].isthing]
    assert abs(len(unseen_things) - things / 3) <= 1
    assert len(unseen) - len(unseen_things) >= 2
    assert split(1) != split(0)
    assert all("sky" in split(seed)[0] for seed in range(20))
