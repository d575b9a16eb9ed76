"""Regions of a scene: profiles, layers from back to front, and zones for the things.

A layer covers the pixels below a profile, or inside a shape, with one texture. Zones limit where
things may be placed, as fractions of the image height: `air` for their middle, `ground` and `water`
for their foot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ovseg.storybook.stuff import Array, Canvas

Coverage = Array  # (H, W) float32 in 0..1: share of a pixel that a layer covers


@dataclass(frozen=True)
class Layer:
    """One region: its stuff category, texture and coverage."""

    name: str
    texture: str
    coverage: Coverage


@dataclass(frozen=True)
class Layout:
    """The regions of one scene, and the zones for things as fractions of the image height."""

    layers: list[Layer]
    zones: dict[str, tuple[float, float]]


# ---- profiles ------------------------------------------------------------------------------------


def _below(canvas: Canvas, profile: NDArray[np.floating]) -> Coverage:
    """Cover the pixels under a profile (W,) of heights in 0..1, with a one-pixel edge."""
    edge = (canvas.y - profile[None, :]) * canvas.size + 0.5
    return np.asarray(np.clip(edge, 0.0, 1.0), dtype=np.float32)


def _waves(canvas: Canvas, rng: np.random.Generator, level: float, swing: float) -> Array:
    """Return a gently rolling profile (W,) around `level`."""
    x = canvas.x[0]
    phase = rng.uniform(0, 2 * np.pi, 2)
    roll = np.sin(x * rng.uniform(3, 7) + phase[0])
    roll = roll + 0.4 * np.sin(x * rng.uniform(9, 16) + phase[1])
    return np.asarray((level + swing * roll), dtype=np.float32)


def _peaks(canvas: Canvas, rng: np.random.Generator, level: float, height: float) -> Array:
    """Return a jagged mountain profile (W,) that rises `height` above `level`."""
    knots = int(rng.integers(6, 10))
    tops = np.where(np.arange(knots) % 2 == rng.integers(2), rng.uniform(0.6, 1.0, knots), 0.15)
    rise = np.interp(canvas.x[0], np.linspace(0, 1, knots), tops + rng.uniform(0, 0.15, knots))
    jag = 0.04 * np.abs(np.sin(canvas.x[0] * 47 + rng.uniform(0, 6)))
    return np.asarray((level - height * (rise + jag)), dtype=np.float32)


def _bumps(canvas: Canvas, rng: np.random.Generator, level: float) -> Array:
    """Return the clipped top of a hedge (W,): a row of small rounds."""
    x = canvas.x[0] * rng.uniform(11, 17) + rng.uniform(0, 1)
    return np.asarray((level - 0.028 * np.abs(np.sin(np.pi * x))), dtype=np.float32)


def _everywhere(canvas: Canvas) -> Coverage:
    return np.ones((canvas.size, canvas.size), dtype=np.float32)


def _track(canvas: Canvas, rng: np.random.Generator, top: Array) -> Coverage:
    """Cover a road that winds from the front up to the profile `top` (W,)."""
    foot, head = rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.7)
    depth = np.clip((canvas.y - float(top.mean())) / (1.0 - float(top.mean())), 0.0, 1.0)
    middle = head + (foot - head) * depth + 0.09 * np.sin(depth * rng.uniform(3, 6))
    half = 0.035 + 0.17 * depth
    inside = (half - np.abs(canvas.x - middle)) * canvas.size + 0.5
    return np.asarray((np.clip(inside, 0, 1) * _below(canvas, top)), dtype=np.float32)


# ---- layouts -------------------------------------------------------------------------------------


def _behind(canvas: Canvas, rng: np.random.Generator, level: float, chance: float) -> list[Layer]:
    layers = [Layer("sky", "sky", _everywhere(canvas))]
    if rng.random() < chance:
        peaks = _peaks(canvas, rng, level + 0.03, rng.uniform(0.16, 0.3))
        layers.append(Layer("mountain", "mountain", _below(canvas, peaks)))
    return layers


def _ground_zones(level: float) -> dict[str, tuple[float, float]]:
    return {"air": (0.14, max(0.3, level - 0.16)), "ground": (level + 0.1, 0.97)}


def seaside(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Sea behind, sand in front."""
    level, shore = rng.uniform(0.34, 0.44), rng.uniform(0.62, 0.72)
    layers = _behind(canvas, rng, level, 0.35)
    flat = np.full(canvas.size, level, dtype=np.float32)
    layers.append(Layer("sea", "sea", _below(canvas, flat)))
    layers.append(Layer("sand", "sand", _below(canvas, _waves(canvas, rng, shore, 0.025))))
    zones = {
        "air": (0.14, level - 0.1),
        "water": (level + 0.1, shore),
        "ground": (shore + 0.1, 0.97),
    }
    return Layout(layers, zones)


def lake(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Water before mountains, a grassy bank in front."""
    level, shore = rng.uniform(0.36, 0.44), rng.uniform(0.74, 0.8)
    layers = _behind(canvas, rng, level, 0.75)
    flat = np.full(canvas.size, level, dtype=np.float32)
    layers.append(Layer("sea", "sea", _below(canvas, flat)))
    layers.append(Layer("grass", "grass", _below(canvas, _waves(canvas, rng, shore, 0.03))))
    zones = {
        "air": (0.14, level - 0.1),
        "water": (level + 0.12, shore),
        "ground": (shore + 0.1, 0.97),
    }
    return Layout(layers, zones)


def village(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """A green hill, often with a road."""
    level = rng.uniform(0.42, 0.52)
    layers = _behind(canvas, rng, level, 0.45)
    hill = _waves(canvas, rng, level, 0.03)
    layers.append(Layer("grass", "grass", _below(canvas, hill)))
    if rng.random() < 0.6:
        layers.append(Layer("road", "road", _track(canvas, rng, hill + 0.02)))
    return Layout(layers, _ground_zones(level))


def farm(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """A ripe field, often with grass in front."""
    level = rng.uniform(0.38, 0.46)
    layers = _behind(canvas, rng, level, 0.25)
    layers.append(Layer("field", "field", _below(canvas, _waves(canvas, rng, level, 0.02))))
    if rng.random() < 0.65:
        front = _waves(canvas, rng, rng.uniform(0.66, 0.76), 0.03)
        layers.append(Layer("grass", "grass", _below(canvas, front)))
    return Layout(layers, _ground_zones(level))


def meadow(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Grass, often before a hedge."""
    level = rng.uniform(0.36, 0.48)
    layers = _behind(canvas, rng, level, 0.3)
    if rng.random() < 0.6:
        layers.append(Layer("hedge", "hedge", _below(canvas, _bumps(canvas, rng, level - 0.06))))
        layers.append(
            Layer("grass", "grass", _below(canvas, _waves(canvas, rng, level + 0.09, 0.012)))
        )
    else:
        layers.append(Layer("grass", "grass", _below(canvas, _waves(canvas, rng, level, 0.035))))
    return Layout(layers, _ground_zones(level))


def street(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """A brick wall behind a road."""
    level, curb = rng.uniform(0.2, 0.34), rng.uniform(0.6, 0.68)
    layers = [Layer("sky", "sky", _everywhere(canvas))]
    flat = np.full(canvas.size, level, dtype=np.float32)
    layers.append(Layer("wall", "wall", _below(canvas, flat)))
    if rng.random() < 0.45:
        layers.append(Layer("hedge", "hedge", _below(canvas, _bumps(canvas, rng, curb - 0.12))))
    layers.append(Layer("road", "road", _below(canvas, np.full(canvas.size, curb, np.float32))))
    return Layout(layers, {"air": (0.14, 0.36), "ground": (curb + 0.05, 0.97)})


def winter(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Snow to the horizon."""
    level = rng.uniform(0.4, 0.5)
    layers = _behind(canvas, rng, level, 0.55)
    layers.append(Layer("snow", "snow", _below(canvas, _waves(canvas, rng, level, 0.035))))
    return Layout(layers, _ground_zones(level))


def desert(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Sand to the horizon."""
    level = rng.uniform(0.42, 0.52)
    layers = _behind(canvas, rng, level, 0.6)
    layers.append(Layer("sand", "sand", _below(canvas, _waves(canvas, rng, level, 0.04))))
    if rng.random() < 0.35:
        layers.append(
            Layer("road", "road", _track(canvas, rng, layers[-1].coverage.argmax(0) / canvas.size))
        )
    return Layout(layers, _ground_zones(level))


def room(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Wallpaper, a floor, often a carpet."""
    level = rng.uniform(0.54, 0.62)
    layers = [Layer("wall", "papered wall", _everywhere(canvas))]
    flat = np.full(canvas.size, level, dtype=np.float32)
    layers.append(Layer("floor", "floor", _below(canvas, flat)))
    if rng.random() < 0.65:
        cx, cy = rng.uniform(0.4, 0.6), rng.uniform(0.8, 0.86)
        rx, ry = rng.uniform(0.3, 0.42), rng.uniform(0.1, 0.15)
        reach = np.sqrt(((canvas.x - cx) / rx) ** 2 + ((canvas.y - cy) / ry) ** 2)
        cover = np.clip((1.0 - reach) * ry * canvas.size + 0.5, 0, 1).astype(np.float32)
        layers.append(Layer("carpet", "carpet", cover))
    return Layout(layers, {"air": (0.2, 0.4), "ground": (level + 0.08, 0.97)})


def night(canvas: Canvas, rng: np.random.Generator) -> Layout:
    """Much sky over a low hill."""
    level = rng.uniform(0.6, 0.7)
    layers = _behind(canvas, rng, level, 0.4)
    ground = ("grass", "field", "snow", "sand")[int(rng.integers(4))]
    layers.append(Layer(ground, ground, _below(canvas, _waves(canvas, rng, level, 0.04))))
    return Layout(layers, {"air": (0.14, level - 0.16), "ground": (level + 0.1, 0.97)})
