"""The textured regions behind the things: sky, sea, grass, sand, road, wall, floor and the rest.

Every texture is a function of (canvas, rng) that returns colors for the whole image; a layout
decides which pixels show it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.storybook.drawing import COLORS, Color

Array = NDArray[np.float32]


def _centers(size: int) -> Array:
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


@dataclass(frozen=True)
class Canvas:
    """The pixel grid of an image: `y` (H, 1) and `x` (1, W) are float32 in 0..1."""

    size: int
    time: str

    @property
    def y(self) -> Array:
        """Row centers, (H, 1), 0 at the top."""
        return _centers(self.size)[:, None]

    @property
    def x(self) -> Array:
        """Column centers, (1, W), 0 at the left."""
        return _centers(self.size)[None, :]


def noise(size: int, rng: np.random.Generator, cells_y: int, cells_x: int) -> Array:
    """Return smooth noise in -1..1, (size, size), with a number of cells down and across."""
    coarse = rng.random((cells_y, cells_x), dtype=np.float32) * 2.0 - 1.0
    image = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _rgb(color: tuple[float, float, float]) -> Array:
    return np.array(color, dtype=np.float32)


def _blend(a: Color, b: Color, weight: Array) -> Array:
    """Blend colors (H, W, 3) from a (weight 0) to b (weight 1)."""
    w = weight[..., None]
    blended: Array = _rgb(a) * (1.0 - w) + _rgb(b) * w
    return blended


def _vary(color: Color, rng: np.random.Generator, amount: float = 12.0) -> Color:
    moved = np.clip(np.array(color) + rng.uniform(-amount, amount, 3), 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])


_SKIES: dict[str, tuple[tuple[Color, Color], ...]] = {
    "day": (((96, 170, 232), (206, 232, 246)), ((120, 190, 236), (238, 240, 226))),
    "dusk": (((108, 94, 166), (250, 178, 128)), ((196, 110, 130), (252, 206, 138))),
    "night": (((22, 28, 72), (70, 84, 142)), ((30, 24, 66), (92, 76, 130))),
    "overcast": (((158, 168, 182), (212, 216, 220)), ((140, 156, 168), (200, 208, 206))),
}


def sky(canvas: Canvas, rng: np.random.Generator) -> Array:
    """A vertical gradient for the time of day with soft brush strokes."""
    pairs = _SKIES[canvas.time]
    top, low = pairs[int(rng.integers(len(pairs)))]
    depth = canvas.y * rng.uniform(1.2, 1.7) + 0.06 * noise(canvas.size, rng, 9, 4)
    out: Array = _blend(_vary(top, rng), low, np.clip(depth, 0, 1))
    out += 4.0 * noise(canvas.size, rng, 40, 12)[..., None]
    return out


def sea(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Blue-green water with rows of wave crests, closer together towards the horizon."""
    base = ((38, 116, 176), (44, 140, 168), (52, 96, 168))[int(rng.integers(3))]
    far, near = _vary((132, 190, 218), rng), _vary(base, rng)
    out: Array = _blend(far, near, np.clip(canvas.y * 1.5 - 0.35 + 0 * canvas.x, 0, 1))
    rows = 26.0 * np.sqrt(canvas.y) * rng.uniform(0.9, 1.2)
    bend = 0.35 * np.sin(canvas.x * rng.uniform(24, 40) + np.floor(rows) * 2.4)
    crest = np.clip(np.cos(2 * np.pi * (rows + bend)) * 4 - 2.6, 0, 1)
    crest *= noise(canvas.size, rng, 22, 9) > -0.1
    return out + 46.0 * crest[..., None] + 5.0 * noise(canvas.size, rng, 30, 10)[..., None]


def grass(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Green ground with blades and paler patches."""
    base = _vary(((98, 164, 74), (120, 176, 84), (84, 148, 84))[int(rng.integers(3))], rng)
    patches = noise(canvas.size, rng, 7, 5)
    blades = noise(canvas.size, rng, 54, 150)
    out: Array = _rgb(base) + patches[..., None] * _rgb((14, 16, 8))
    out += (14.0 * blades + 12.0 * (blades > 0.55))[..., None] * _rgb((1, 1, 0))
    out *= (1.06 - 0.16 * canvas.y)[..., None]
    return out


def sand(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Pale sand with ripples and grains."""
    base = _vary(((234, 208, 152), (226, 194, 136), (240, 216, 172))[int(rng.integers(3))], rng)
    warp = canvas.y * 62 + 2.2 * noise(canvas.size, rng, 4, 5)
    ripple = 6.0 * np.sin(warp * rng.uniform(1.4, 2.4))
    grain = rng.standard_normal((canvas.size, canvas.size), dtype=np.float32)
    out: Array = _rgb(base) + (ripple + 7.0 * grain - 16.0 * (grain < -2.1))[..., None]
    return out


def road(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Gray asphalt, speckled."""
    base = _vary(((112, 112, 120), (132, 128, 128), (96, 98, 110))[int(rng.integers(3))], rng, 6)
    grain = rng.standard_normal((canvas.size, canvas.size), dtype=np.float32)
    smudge = noise(canvas.size, rng, 10, 4)
    return _rgb(base) + (5.0 * grain + 6.0 * smudge)[..., None]


def brick_wall(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Bricks with pale mortar."""
    base = _vary(
        ((178, 98, 80), (196, 160, 130), (150, 140, 140), (204, 190, 176))[int(rng.integers(4))],
        rng,
    )
    courses = float(rng.integers(17, 24))
    row = np.floor(canvas.y * courses)
    column = canvas.x * courses * 0.5 + 0.5 * (row % 2)
    tones = rng.uniform(-15.0, 15.0, (24, 16)).astype(np.float32)
    tone = tones[row.astype(np.intp), np.floor(column).astype(np.intp)]
    mortar = ((canvas.y * courses) % 1.0 < 0.17) | (column % 1.0 < 0.09)
    out: Array = _rgb(base) + (tone + 5.0 * noise(canvas.size, rng, 40, 40))[..., None]
    out[mortar] = out[mortar] * 0.4 + 255.0 * 0.6 * 0.84
    return out


def papered_wall(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Wallpaper in stripes, dots or diamonds."""
    tones = ((240, 222, 190), (196, 220, 214), (236, 200, 196), (204, 210, 236), (222, 228, 190))
    base = _vary(tones[int(rng.integers(len(tones)))], rng, 8)
    count = float(rng.integers(8, 14))
    kind = int(rng.integers(3))
    if kind == 0:
        mark = ((canvas.x * count) % 1.0 < 0.42) & (canvas.y >= 0)
    elif kind == 1:
        u, v = canvas.x * count, canvas.y * count
        u = u + 0.5 * (np.floor(v) % 2)
        mark = (u % 1.0 - 0.5) ** 2 + (v % 1.0 - 0.5) ** 2 < 0.04
    else:
        mark = (
            np.abs((canvas.x * count) % 1.0 - 0.5) + np.abs((canvas.y * count) % 1.0 - 0.5)
        ) < 0.22
    lift = np.where(mark, rng.choice([-17.0, 13.0]), 0.0).astype(np.float32)
    out: Array = _rgb(base) + (lift + 3.0 * noise(canvas.size, rng, 20, 20))[..., None]
    out *= (1.03 - 0.12 * canvas.y)[..., None]
    return out


def floor(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Wooden planks or tiles, laid in perspective."""
    depth = 1.0 / (canvas.y + 0.35)
    if rng.random() < 0.6:
        base = _vary(((186, 134, 86), (156, 106, 70), (208, 164, 112))[int(rng.integers(3))], rng)
        u = (canvas.x - 0.5) * depth * 13.0 + 40.0
        plank = np.floor(u)
        tone = np.sin(plank * 91.7) * 13.0
        joint = (u % 1.0) < 0.09
        grain = noise(canvas.size, rng, 12, 80)
        out = _rgb(base) + (tone + 7.0 * grain)[..., None]
    else:
        u = (canvas.x - 0.5) * depth * 9.0 + 40.0
        v = depth * 11.0
        check = (np.floor(u) + np.floor(v)) % 2
        light = _vary((226, 220, 208), rng, 8)
        dark = _vary(((166, 120, 104), (128, 150, 160), (150, 160, 130))[int(rng.integers(3))], rng)
        out = _blend(light, dark, check.astype(np.float32))
        joint = (u % 1.0 < 0.05) | (v % 1.0 < 0.05)
        out += 3.0 * noise(canvas.size, rng, 30, 30)[..., None]
    out[joint] *= 0.78
    return out


def snow(canvas: Canvas, rng: np.random.Generator) -> Array:
    """White ground with blue hollows and a few glints."""
    drift = noise(canvas.size, rng, 6, 4)
    grain = rng.standard_normal((canvas.size, canvas.size), dtype=np.float32)
    base = _vary((232, 238, 246), rng, 5)
    out: Array = _rgb(base) + drift[..., None] * _rgb((16, 11, 5))
    return out + (2.0 * grain + 12.0 * (grain > 2.3))[..., None]


def mountain(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Bare rock in slanting facets."""
    base = _vary(((124, 122, 150), (138, 120, 116), (108, 128, 138))[int(rng.integers(3))], rng)
    facet = noise(canvas.size, rng, 7, 11) + 0.6 * np.sin(canvas.x * 30 + canvas.y * 22)
    light = np.where(facet > 0.1, 16.0, -12.0).astype(np.float32)
    out: Array = _rgb(base) + (light + 7.0 * noise(canvas.size, rng, 50, 50))[..., None]
    return out + (26.0 * (0.55 - canvas.y))[..., None]


def field(canvas: Canvas, rng: np.random.Generator) -> Array:
    """A ripe field: golden rows that run to the horizon."""
    base = _vary(((222, 182, 84), (206, 168, 70), (228, 196, 112))[int(rng.integers(3))], rng)
    middle = rng.uniform(0.2, 0.8)
    u = (canvas.x - middle) / (canvas.y - 0.12).clip(0.1) * rng.uniform(9, 14)
    rows = np.sin(2 * np.pi * u)
    ears = noise(canvas.size, rng, 90, 60)
    out: Array = _rgb(base) + (12.0 * rows + 13.0 * ears)[..., None] * _rgb((1.0, 0.95, 0.5))
    return out


def carpet(canvas: Canvas, rng: np.random.Generator) -> Array:
    """A woven carpet in colored bands."""
    names = ("red", "blue", "green", "purple", "pink", "orange")
    first = _vary(COLORS[names[int(rng.integers(6))]], rng)
    bands = np.sin(canvas.y * rng.uniform(70, 110) + 0 * canvas.x)
    zigzag = np.sin(canvas.y * 90 + 3.0 * np.abs((canvas.x * 14) % 2 - 1))
    out: Array = _blend(first, (240, 226, 200), (0.25 + 0.25 * (bands > 0.2)).astype(np.float32))
    weave = rng.standard_normal((canvas.size, canvas.size), dtype=np.float32)
    return out + (14.0 * (zigzag > 0.6) + 5.0 * weave)[..., None]


def hedge(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Dense dark leaves."""
    base = _vary(((54, 108, 66), (68, 118, 58), (48, 98, 78))[int(rng.integers(3))], rng, 8)
    leaves = noise(canvas.size, rng, 46, 46)
    out: Array = _rgb(base) + (20.0 * (leaves > 0.25) - 18.0 * (leaves < -0.3))[..., None]
    return out + 10.0 * noise(canvas.size, rng, 12, 12)[..., None]


Texture = Callable[[Canvas, np.random.Generator], Array]

TEXTURES: dict[str, Texture] = {
    "sky": sky,
    "sea": sea,
    "grass": grass,
    "sand": sand,
    "road": road,
    "wall": brick_wall,
    "papered wall": papered_wall,
    "floor": floor,
    "snow": snow,
    "mountain": mountain,
    "field": field,
    "carpet": carpet,
    "hedge": hedge,
}
