"""The things of a room, a kitchen and a toy box, one drawing function per category."""

from __future__ import annotations

import numpy as np

from ovseg.storybook.drawing import COLORS, CREAM, INK, STEEL, WOOD, Color, Pen, shade


def _second(rng: np.random.Generator, color: Color) -> Color:
    """Return a second color well apart from the first."""
    names = ("white", "yellow", "blue", "red", "green")
    for index in rng.permutation(len(names)):
        other = COLORS[names[index]]
        if sum(abs(a - b) for a, b in zip(other, color)) > 180:
            return other
    return CREAM


def umbrella(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """An open umbrella with a scalloped hem and a crooked handle."""
    other = _second(rng, color) if rng.random() < 0.6 else shade(color, 0.85)
    pen.line(((50, 4), (50, 90), (53, 97), (60, 98), (65, 92)), shade(WOOD, 0.7), 4)
    edges = np.linspace(0, 100, 6)
    for i in range(5):
        a, b = edges[i], edges[i + 1]
        left = 50 - (50 - a) * 0.75
        right = 50 - (50 - b) * 0.75
        hem = ((b, 54), ((a + b) / 2, 47), (a, 54))
        pen.poly(((50, 8), (left, 22), *hem[::-1], (right, 22)), color if i % 2 == 0 else other)
    pen.dot(50, 6, 3, shade(color, 0.6))


def ball(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A beach ball in curved stripes."""
    other = _second(rng, color)
    pen.oval(50, 50, 49, 49, color)
    t = np.linspace(-np.pi / 2, np.pi / 2, 12)
    for inner, outer in ((-0.72, -0.3), (0.1, 0.5), (0.82, 0.97)):
        one = np.stack([50 + 48 * inner * np.cos(t), 50 + 48 * np.sin(t)], 1)
        two = np.stack([50 + 48 * outer * np.cos(t), 50 + 48 * np.sin(t)], 1)
        pen.poly(np.concatenate([one, two[::-1]]), other, ink=0.75)
    pen.oval(50, 4, 7, 3, CREAM)
    pen.oval(32, 28, 7, 10, (255, 252, 246), ink=None, tilt=0.7)


def chair(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A wooden chair with a spindle back, seen from the side."""
    dark = shade(color, 0.78)
    pen.rect(34, 58, 40, 94, dark)
    pen.rect(72, 58, 78, 94, dark)
    pen.rect(20, 0, 28, 99, color)
    pen.rect(56, 2, 63, 60, color)
    pen.rect(20, 2, 63, 12, color)
    for x in (34, 45):
        pen.rect(x, 12, x + 4, 54, dark)
    pen.rect(24, 28, 60, 34, color)
    pen.poly(((18, 64), (32, 52), (84, 52), (74, 64)), shade(color, 1.15))
    if rng.random() < 0.5:
        pen.blob(((28, 58), (36, 49), (74, 49), (70, 59)), _second(rng, color))
    pen.rect(18, 63, 75, 69, color)
    pen.rect(66, 69, 74, 99, color)


def table(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A four-legged table, often under a cloth."""
    dark = shade(color, 0.75)
    for x in (18, 76):
        pen.rect(x, 50, x + 6, 90, dark)
    for x in (4, 89):
        pen.rect(x, 54, x + 8, 99, color)
    pen.rect(6, 54, 95, 64, dark)
    pen.poly(((-3, 52), (12, 38), (90, 38), (104, 52)), shade(color, 1.1))
    pen.rect(-3, 51, 104, 57, color)
    if rng.random() < 0.5:
        cloth = _second(rng, color)
        along = np.linspace(20, 82, 7)
        hem = np.stack([along, 70 + 5.0 * (np.arange(7) % 2)], 1)
        pen.poly(np.concatenate([hem, [[78.0, 38.0], [26.0, 38.0]]]), cloth, ink=0.75)
        pen.line(((22, 51), (81, 51)), shade(cloth, 0.8), 1.4)
    else:
        pen.line(((10, 45), (94, 45)), shade(color, 0.8), 1.2)


def clock(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A twin-bell alarm clock; the hands show any time."""
    for s in (-1, 1):
        pen.line(((50 + s * 24, 84), (50 + s * 34, 99)), shade(color, 0.6), 6)
        pen.oval(50 + s * 24, 14, 16, 10, shade(color, 0.85), tilt=s * 0.6)
    pen.line(((50, 4), (50, 18)), STEEL, 4)
    pen.oval(50, 3, 6, 4, STEEL)
    pen.oval(50, 55, 41, 40, color)
    pen.oval(50, 55, 32, 31, CREAM)
    for i in range(12):
        a = i * np.pi / 6
        pen.dot(50 + 26 * np.cos(a), 55 + 25 * np.sin(a), 2.6 if i % 3 == 0 else 1.4)
    hour = rng.uniform(0, 2 * np.pi)
    minute = rng.integers(12) * np.pi / 6
    pen.line(((50, 55), (50 + 15 * np.cos(hour), 55 + 15 * np.sin(hour))), INK, 4)
    pen.line(((50, 55), (50 + 23 * np.cos(minute), 55 + 23 * np.sin(minute))), INK, 2.6)
    pen.dot(50, 55, 3.4, COLORS["red"])


def bucket(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A bucket with a wire handle."""
    t = np.linspace(np.pi, 2 * np.pi, 12)
    lift = rng.uniform(26, 38)
    pen.line(np.stack([50 + 40 * np.cos(t), 36 + lift * np.sin(t)], 1).tolist(), (96, 98, 106), 3.4)
    pen.poly(((8, 36), (22, 97), (50, 100), (78, 97), (92, 36)), color)
    pen.poly(((20, 42), (30, 94), (38, 95), (32, 42)), shade(color, 1.4), ink=None)
    pen.poly(((12, 52), (15, 64), (85, 64), (88, 52)), shade(color, 0.8), ink=None)
    pen.oval(50, 36, 43, 10, shade(color, 0.9))
    pen.oval(50, 37, 36, 6.5, shade(color, 0.5), ink=None)
    for x in (9, 91):
        pen.dot(x, 37, 4, STEEL)


def hat(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A brimmed hat with a ribbon band."""
    band = _second(rng, color)
    high = rng.uniform(18, 34)
    pen.oval(50, 78, 52, 15, shade(color, 0.88))
    pen.blob(
        (
            (22, 76),
            (24, 50),
            (30, high + 4),
            (50, high),
            (70, high + 4),
            (76, 50),
            (78, 76),
            (50, 83),
        ),
        color,
    )
    pen.poly(_band(), band)
    pen.oval(42, high + 14, 8, 6, shade(color, 1.4), ink=None)
    pen.poly(((76, 66), (92, 60), (90, 72), (94, 82)), band)


def _band() -> list[tuple[float, float]]:
    """The ribbon around the hat: a curved strip."""
    x = np.linspace(23, 77, 7)
    dip = 5 * (1 - ((x - 50) / 27) ** 2)
    lower = [(float(a), float(75 + d)) for a, d in zip(x, dip)]
    upper = [(float(a), float(62 + d)) for a, d in zip(x, dip)]
    return lower + upper[::-1]


def cup(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A cup with a handle on a saucer, dots or a stripe around it."""
    other = _second(rng, color)
    pen.oval(48, 92, 50, 9, shade(color, 0.9))
    pen.oval(84, 52, 17, 17, color)
    pen.cut(84, 52, 9, 9)
    pen.blob(((10, 30), (12, 64), (26, 88), (48, 92), (70, 88), (82, 64), (86, 30)), color)
    if rng.random() < 0.5:
        for x, y in ((24, 56), (40, 62), (58, 62), (73, 56), (34, 76), (62, 76)):
            pen.dot(x, y, 4.5, other)
    else:
        pen.poly(((13, 58), (16, 70), (80, 70), (84, 58)), other, ink=0.8)
    pen.oval(48, 30, 38, 9, shade(color, 1.3))
    pen.oval(48, 31, 31, 6, (140, 92, 60))


def book(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """An open book showing its pages, or a closed one standing."""
    if rng.random() < 0.5:
        pen.poly(((-2, 46), (48, 56), (50, 92), (0, 80)), color)
        pen.poly(((102, 46), (52, 56), (50, 92), (100, 80)), color)
        pen.blob(((50, 52), (30, 38), (4, 40), (4, 74), (30, 72), (50, 86)), CREAM, ink=0.7)
        pen.blob(((50, 52), (70, 38), (96, 40), (96, 74), (70, 72), (50, 86)), CREAM, ink=0.7)
        for k in range(4):
            y = 47 + k * 6.5
            pen.line(((11, y), (28, y), (44, y + 7)), (140, 130, 130), 1.8)
            pen.line(((89, y), (72, y), (56, y + 7)), (140, 130, 130), 1.8)
        pen.line(((50, 54), (50, 88)), shade(CREAM, 0.6), 2)
    else:
        pen.poly(((74, 8), (86, 14), (86, 96), (74, 98)), CREAM)
        for x in (77, 80, 83):
            pen.line(((x, 14), (x, 95)), shade(CREAM, 0.75), 1)
        pen.rect(18, 6, 76, 98, color)
        pen.rect(18, 6, 28, 98, shade(color, 0.75))
        other = _second(rng, color)
        pen.rect(36, 20, 68, 40, other)
        pen.line(((40, 27), (64, 27)), INK, 2.4)
        pen.line(((44, 34), (60, 34)), INK, 2)
        pen.oval(52, 68, 13, 13, other)
