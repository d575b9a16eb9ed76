"""Draws a scene of the storybook from a seed, with the mask of everything in it.

A scene is a background of textured regions (stuff) with a handful of sprites (things) on top, from
far to near, lit for one time of day. Every pixel belongs to exactly one segment. Things that would
be almost hidden are left out before painting, so that everything visible has a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.storybook.categories import BY_NAME, Category
from ovseg.storybook.drawing import COLORS, Pen, jitter
from ovseg.storybook.layouts import Layout
from ovseg.storybook.scenery import SETTINGS, Setting, choose_things
from ovseg.storybook.stuff import TEXTURES, Array, Canvas, noise
from ovseg.storybook.things.registry import THINGS

MIN_VISIBLE = 60  # pixels of a segment in a 160-pixel scene
_MIN_SHARE = 0.3  # of a thing's own pixels

_LIGHT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "dusk": (1.02, 0.88, 0.82),
    "night": (0.6, 0.64, 0.86),
    "overcast": (0.9, 0.92, 0.95),
    "evening": (1.0, 0.91, 0.78),
}


@dataclass(frozen=True)
class Segment:
    """One labeled region of a scene.

    Attributes:
        id: 1-based, unique in the scene; things come first, from far to near.
        category: Its category.
        mask: (H, W) bool, the visible pixels.
        attributes: `on` names the stuff under or behind it; things also have `color`, `zone` (air,
            ground or water) and, if it is unusual, `size` (small or big).
    """

    id: int
    category: Category
    mask: NDArray[np.bool_]
    attributes: dict[str, str]


@dataclass(frozen=True)
class Scene:
    """An image and its segments.

    Attributes:
        seed: The seed it was drawn from.
        size: Height and width in pixels.
        image: (size, size, 3) uint8 RGB.
        segments: Disjoint masks that cover the image.
        setting: Kind of scene, a key of `scenery.SETTINGS`.
        time: day, dusk, night, overcast or evening (indoors).
    """

    seed: int
    size: int
    image: NDArray[np.uint8]
    segments: tuple[Segment, ...]
    setting: str
    time: str


@dataclass
class _Placed:
    """A sprite and its position: `top`, `left` in pixels, possibly outside the image."""

    name: str
    sprite: Array
    top: int
    left: int
    zone: str
    attributes: dict[str, str]

    @property
    def foot(self) -> int:
        return self.top + int(self.sprite.shape[0])

    def window(self, size: int) -> tuple[slice, slice, slice, slice]:
        """Return rows and columns of the image, then of the sprite, where they overlap."""
        h, w = self.sprite.shape[:2]
        y0, y1 = max(self.top, 0), min(self.top + h, size)
        x0, x1 = max(self.left, 0), min(self.left + w, size)
        return (
            slice(y0, max(y0, y1)),
            slice(x0, max(x0, x1)),
            slice(y0 - self.top, max(y0, y1) - self.top),
            slice(x0 - self.left, max(x0, x1) - self.left),
        )


def draw_scene(seed: int, *, size: int = 160) -> Scene:
    """Draw the scene of a seed.

    Args:
        seed: Non-negative; the same seed and size give the same pixels in every process.
        size: Height and width in pixels, at least 48.

    Returns:
        The scene, with segments that are disjoint and cover the image.

    Raises:
        ValueError: The seed is negative or the size too small to recognize anything.
    """
    if seed < 0 or size < 48:
        raise ValueError(f"draw_scene needs seed >= 0 and size >= 48, got seed={seed} size={size}")
    rng = np.random.default_rng(seed)
    names = tuple(SETTINGS)
    setting_name = names[int(rng.integers(len(names)))]
    setting = SETTINGS[setting_name]
    time = setting.times[int(rng.integers(len(setting.times)))]
    canvas = Canvas(size=size, time=time)
    layout = setting.layout(canvas, rng)
    labels = _stuff_labels(layout, size)
    placed = _place_things(setting, layout, canvas, rng)
    placed = _drop_hidden(placed, labels, size)
    for thing in placed:
        thing.attributes["on"] = _stuff_under(thing, labels, layout, size)
    image = _paint(placed, layout, canvas, rng)
    segments = _segments(placed, labels, layout, size)
    return Scene(seed, size, image, segments, setting_name, time)


# ---- placing -------------------------------------------------------------------------------------


def _stuff_labels(layout: Layout, size: int) -> NDArray[np.int16]:
    """Return the index of the front-most layer at each pixel, (size, size)."""
    labels = np.zeros((size, size), dtype=np.int16)
    for index, layer in enumerate(layout.layers):
        labels[layer.coverage >= 0.5] = index
    least = 4 * MIN_VISIBLE * (size / 160.0) ** 2
    for index in range(len(layout.layers) - 1, 0, -1):
        if np.count_nonzero(labels == index) < least:  # too small: leave it out
            del layout.layers[index]
            return _stuff_labels(layout, size)
    return labels


def _place_things(
    setting: Setting, layout: Layout, canvas: Canvas, rng: np.random.Generator
) -> list[_Placed]:
    """Draw the sprites of a scene and find places for them, sorted from far to near."""
    placed: list[_Placed] = []
    for name, zone, count in choose_things(setting, canvas.time, rng):
        thing = THINGS[name]
        same_color = rng.random() < 0.5
        color = thing.colors[int(rng.integers(len(thing.colors)))]
        for _ in range(count):
            if not same_color:
                color = thing.colors[int(rng.integers(len(thing.colors)))]
            placed.append(_place_one(name, zone, color, placed, layout, canvas, rng))
    return sorted(placed, key=lambda item: (item.zone != "air", item.zone != "water", item.foot))


def _place_one(
    name: str,
    zone: str,
    color: str,
    others: list[_Placed],
    layout: Layout,
    canvas: Canvas,
    rng: np.random.Generator,
) -> _Placed:
    thing, size = THINGS[name], canvas.size
    low, high = layout.zones[zone]
    height = rng.uniform(low, high)
    near = (height - low) / max(high - low, 1e-6) if zone != "air" else 0.5
    pixels = rng.uniform(*thing.pixels) * (0.82 + 0.3 * near)
    pen = Pen(
        pixels=pixels * size / 160.0,
        flip=bool(rng.random() < 0.5),
        angle=float(rng.uniform(-thing.tilt, thing.tilt)),
        stretch=(float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.92, 1.08))),
    )
    thing.draw(pen, rng, jitter(COLORS[color], rng))
    sprite = pen.sprite()
    h, w = sprite.shape[:2]
    if zone == "water" and name != "bridge":
        _float_in_water(sprite, rng)
    best: tuple[float, int, int] | None = None
    for _ in range(7):
        x = rng.uniform(0.1, 0.9)
        left = int(np.clip(x * size - w / 2, -0.15 * w, size - 0.85 * w))
        middle = height if zone == "air" else height - h / 2 / size
        top = int(np.clip(middle * size - h / 2, -0.1 * h, size - 0.95 * h))
        covered = max((_overlap(left, top, w, h, other) for other in others), default=0.0)
        if best is None or covered < best[0]:
            best = covered, left, top
        if covered < 0.25:
            break
        height = rng.uniform(low, high) if zone == "air" else height
    assert best is not None
    attributes = {"color": color, "zone": zone}
    rank = (pixels - 0.82 * thing.pixels[0]) / (1.12 * thing.pixels[1] - 0.82 * thing.pixels[0])
    if rank < 0.3 or rank > 0.7:
        attributes["size"] = "small" if rank < 0.3 else "big"
    return _Placed(name, sprite, best[2], best[1], zone, attributes)


def _float_in_water(sprite: Array, rng: np.random.Generator) -> None:
    """Hide the lowest part of a sprite behind a wavy waterline (in place)."""
    h, w = sprite.shape[:2]
    waterline = h * 0.92 + np.sin(np.arange(w) * 0.55 + rng.uniform(0, 6)) * h * 0.025
    sprite[..., 3] *= np.clip(waterline[None, :] - np.arange(h)[:, None], 0.0, 1.0)


def _overlap(left: int, top: int, w: int, h: int, other: _Placed) -> float:
    """Return the shared area of two boxes as a fraction of the smaller one."""
    oh, ow = other.sprite.shape[:2]
    across = min(left + w, other.left + ow) - max(left, other.left)
    down = min(top + h, other.top + oh) - max(top, other.top)
    return float(max(0, across) * max(0, down) / min(w * h, ow * oh))


def _owners(placed: list[_Placed], size: int) -> NDArray[np.int16]:
    """Return the index of the front-most thing at each pixel, -1 for none."""
    owners = np.full((size, size), -1, dtype=np.int16)
    for index, thing in enumerate(placed):
        rows, columns, inner_rows, inner_columns = thing.window(size)
        inside = thing.sprite[inner_rows, inner_columns, 3] >= 0.5
        owners[rows, columns][inside] = index
    return owners


def _drop_hidden(placed: list[_Placed], labels: NDArray[np.int16], size: int) -> list[_Placed]:
    """Remove things that are almost hidden, and the nearest ones that hide a whole region."""
    least = MIN_VISIBLE * (size / 160.0) ** 2
    areas = {id(thing): float(np.count_nonzero(thing.sprite[..., 3] >= 0.5)) for thing in placed}
    while placed:
        owners = _owners(placed, size)
        visible = np.bincount(owners[owners >= 0], minlength=len(placed)).astype(np.float64)
        shares = [n / max(areas[id(t)], 1.0) for n, t in zip(visible, placed)]
        hidden = [i for i, n in enumerate(visible) if n < max(least, 1.0) or shares[i] < _MIN_SHARE]
        if hidden:
            del placed[min(hidden, key=lambda i: shares[i])]
            continue
        free = np.bincount(labels[owners < 0], minlength=int(labels.max()) + 1)
        buried = np.flatnonzero(free < least)
        if not len(buried):
            break
        on_top = owners[labels == buried[0]]
        del placed[int(np.bincount(on_top[on_top >= 0]).argmax())]
    return placed


def _stuff_under(thing: _Placed, labels: NDArray[np.int16], layout: Layout, size: int) -> str:
    """Return the stuff behind a flying thing's middle or under a standing thing's foot."""
    h, w = thing.sprite.shape[:2]
    row = thing.top + h // 2 if thing.zone == "air" else thing.foot
    column = thing.left + w // 2
    index = labels[min(max(row, 0), size - 1), min(max(column, 0), size - 1)]
    return layout.layers[int(index)].name


# ---- painting ------------------------------------------------------------------------------------


def _paint(
    placed: list[_Placed], layout: Layout, canvas: Canvas, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Paint regions, shadows and sprites; (size, size, 3) uint8."""
    size = canvas.size
    light = np.array(_LIGHT[canvas.time], dtype=np.float32)
    light_on_things = 0.5 * (1.0 + light)  # half as much, so that captions' colors stay true
    image = np.zeros((size, size, 3), dtype=np.float32)
    for layer in layout.layers:
        color = TEXTURES[layer.texture](canvas, rng)
        covered = np.flatnonzero(layer.coverage.any(axis=1))
        part = slice(int(covered[0]), int(covered[-1]) + 1)
        color = color[part] if layer.name == "sky" else color[part] * light
        image[part] += layer.coverage[part, :, None] * (color - image[part])
    for thing in placed:
        if THINGS[thing.name].glows:
            _glow(image, thing, size)
    sunward = 1.0 if rng.random() < 0.5 else -1.0
    for thing in placed:
        if thing.zone == "ground":
            _shadow(image, thing, size, sunward, 0.62 if canvas.time == "day" else 0.74)
        rows, columns, inner_rows, inner_columns = thing.window(size)
        patch = thing.sprite[inner_rows, inner_columns]
        h, w = thing.sprite.shape[:2]
        across = np.linspace(-1.0, 1.0, w, dtype=np.float32)[None, inner_columns] * sunward
        down = np.linspace(-1.0, 1.0, h, dtype=np.float32)[inner_rows, None]
        lit = (1.0 - 0.1 * across - 0.08 * down)[..., None]
        color = patch[..., :3] * (lit if THINGS[thing.name].glows else lit * light_on_things)
        image[rows, columns] += patch[..., 3:] * (color - image[rows, columns])
    paper = 3.0 * noise(size, rng, size // 2, size // 2)
    image += paper[..., None]
    reach = (canvas.x - 0.5) ** 2 + (canvas.y - 0.5) ** 2
    image *= (1.02 - 0.16 * reach)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _glow(image: Array, thing: _Placed, size: int) -> None:
    """Brighten the image around a shining thing (in place)."""
    h, w = thing.sprite.shape[:2]
    y = np.arange(size, dtype=np.float32)[:, None] - (thing.top + h / 2)
    x = np.arange(size, dtype=np.float32)[None, :] - (thing.left + w / 2)
    halo = np.exp(-(x * x + y * y) / (1.1 * max(h, w)) ** 2 * 2.0)[..., None]
    image += halo * np.array((64, 54, 26), dtype=np.float32)


def _shadow(image: Array, thing: _Placed, size: int, sunward: float, darkness: float) -> None:
    """Darken a soft ellipse under a thing's foot (in place)."""
    w = thing.sprite.shape[1]
    cx, cy = thing.left + w / 2 + sunward * w * 0.1, thing.foot - 1.5
    rx, ry = w * 0.56, max(2.0, w * 0.11)
    y0, y1 = max(0, int(cy - ry) - 1), min(size, int(cy + ry) + 2)
    x0, x1 = max(0, int(cx - rx) - 1), min(size, int(cx + rx) + 2)
    if y1 <= y0 or x1 <= x0:
        return
    y = (np.arange(y0, y1, dtype=np.float32)[:, None] - cy) / ry
    x = (np.arange(x0, x1, dtype=np.float32)[None, :] - cx) / rx
    inside = np.clip(1.4 * (1.0 - x * x - y * y), 0.0, 1.0)[..., None]
    image[y0:y1, x0:x1] *= 1.0 - (1.0 - darkness) * inside


def _segments(
    placed: list[_Placed], labels: NDArray[np.int16], layout: Layout, size: int
) -> tuple[Segment, ...]:
    owners = _owners(placed, size)
    segments = [
        Segment(index + 1, BY_NAME[thing.name], owners == index, thing.attributes)
        for index, thing in enumerate(placed)
    ]
    free = owners < 0
    for index, layer in enumerate(layout.layers):
        mask = free & (labels == index)
        segments.append(Segment(len(segments) + 1, BY_NAME[layer.name], mask, {"on": layer.name}))
    return tuple(segments)
