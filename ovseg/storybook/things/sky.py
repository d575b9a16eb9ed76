"""The things in the air, one drawing function per category."""

from __future__ import annotations

import numpy as np

from ovseg.storybook.drawing import COLORS, CREAM, GLASS, INK, Color, Pen, shade


def moon(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A crescent moon with a sleepy face and a few craters."""
    bite = rng.uniform(16, 30)
    turn = np.linspace(0.62 * np.pi, 1.38 * np.pi, 24)
    outer = np.stack([62 + 56 * np.cos(turn * 1.0), 50 + 50 * np.sin(turn)], 1)
    inner = np.stack([62 + bite + 42 * np.cos(turn[::-1]), 50 + 49 * np.sin(turn[::-1])], 1)
    inner[:, 0] = np.maximum(inner[:, 0], outer[::-1, 0] + 1)
    pen.poly(np.concatenate([outer, inner]), color)
    for x, y, r in ((24, 30, 4), (19, 66, 5), (32, 80, 3)):
        pen.dot(x, y, r, shade(color, 0.86))
    pen.line(((20, 46), (25, 49), (30, 46)), shade(color, 0.45), 2.4)
    pen.line(((26, 62), (31, 63), (34, 60)), shade(color, 0.45), 2.4)


def sun(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A sun with pointed rays and a smile."""
    rays = int(rng.integers(9, 14))
    for i in range(rays):
        a = 2 * np.pi * i / rays
        tip = 50 if i % 2 else 44
        pen.poly(
            (
                (50 + 31 * np.cos(a - 0.17), 50 + 31 * np.sin(a - 0.17)),
                (50 + tip * np.cos(a), 50 + tip * np.sin(a)),
                (50 + 31 * np.cos(a + 0.17), 50 + 31 * np.sin(a + 0.17)),
            ),
            shade(color, 0.92),
            ink=0.78,
        )
    pen.oval(50, 50, 31, 31, color, ink=0.78)
    pen.oval(45, 44, 18, 17, shade(color, 1.35), ink=None)
    if rng.random() < 0.6:
        pen.dot(40, 46, 3)
        pen.dot(60, 46, 3)
        pen.line(((38, 58), (44, 63), (56, 63), (62, 58)), shade(color, 0.5), 2.6)


def cloud(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A heaped cloud with a flat base."""
    puffs = (
        (18, 62, 17, 13),
        (34, 48, 19, 18),
        (56, 42, 22, 21),
        (76, 54, 18, 16),
        (88, 64, 12, 10),
    )
    moved = [(x + rng.uniform(-3, 3), y + rng.uniform(-4, 4), rx, ry) for x, y, rx, ry in puffs]
    for x, y, rx, ry in moved:
        pen.oval(x, y, rx, ry, shade(color, 0.84), ink=0.88)
    pen.rect(16, 60, 90, 74, shade(color, 0.84), ink=None)
    for x, y, rx, ry in moved:
        pen.oval(x - 1, y - 1, rx * 0.92, ry * 0.9, color, ink=None)
    pen.rect(20, 58, 86, 69, color, ink=None)
    for x, y, rx, ry in moved[1:4]:
        pen.oval(x - rx * 0.3, y - ry * 0.35, rx * 0.4, ry * 0.35, shade(color, 1.6), ink=None)


def star(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A five-pointed star."""
    inner = rng.uniform(19, 24)
    a = -np.pi / 2 + np.arange(10) * np.pi / 5
    r = np.where(np.arange(10) % 2 == 0, 50.0, inner)
    points = np.stack([50 + r * np.cos(a), 52 + r * np.sin(a)], 1)
    pen.poly(points, color, ink=0.72)
    pen.poly((points - (50, 52)) * 0.5 + (47, 49), shade(color, 1.4), ink=None)


def kite(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A diamond kite in four panels with a bowed tail."""
    other = COLORS[("yellow", "white", "blue", "green")[int(rng.integers(4))]]
    sway = rng.uniform(-8, 8)
    tail = ((50, 62), (44 + sway, 72), (54, 82), (46 - sway, 92), (52, 102))
    pen.line(tail, INK, 1.8)
    for x, y in tail[1:]:
        pen.poly(((x, y), (x - 8, y - 4), (x - 8, y + 4)), other)
        pen.poly(((x, y), (x + 8, y - 4), (x + 8, y + 4)), color)
    top, left, right, bottom, mid = (50, 0), (22, 26), (78, 26), (50, 66), (50, 26)
    pen.poly((top, mid, left), color)
    pen.poly((top, mid, right), other)
    pen.poly((bottom, mid, left), other)
    pen.poly((bottom, mid, right), color)
    pen.line((top, bottom), shade(color, 0.5), 1.6)
    pen.line((left, right), shade(color, 0.5), 1.6)


def balloon(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A party balloon on a wavy string."""
    sway = rng.uniform(4, 8)
    pen.line(((50, 68), (50 + sway, 78), (50 - sway, 90), (50, 102)), (120, 110, 110), 2.2)
    pen.poly(((44, 72), (56, 72), (50, 64)), shade(color, 0.8))
    pen.blob(((50, 67), (28, 48), (22, 26), (34, 6), (66, 6), (78, 26), (72, 48)), color)
    pen.oval(58, 46, 13, 12, shade(color, 0.9), ink=None)
    pen.oval(47, 31, 19, 22, color, ink=None)
    pen.oval(38, 20, 5, 9, shade(color, 1.65), ink=None, tilt=0.5)


def rocket(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A rocket: nose cone, porthole, fins, flame."""
    hull = CREAM if rng.random() < 0.5 else (206, 212, 222)
    pen.blob(((40, 82), (36, 92), (50, 108), (64, 92), (60, 82)), (244, 150, 40), ink=0.8)
    pen.blob(((45, 82), (44, 90), (50, 98), (56, 90), (55, 82)), (252, 226, 90), ink=None)
    for s in (-1, 1):
        fin = ((50 + s * 16, 52), (50 + s * 34, 74), (50 + s * 33, 90), (50 + s * 12, 80))
        pen.poly(fin, color)
    pen.blob(((38, 84), (31, 56), (36, 26), (50, -2), (64, 26), (69, 56), (62, 84)), hull)
    pen.blob(((36, 26), (42, 10), (50, -2), (58, 10), (64, 26), (50, 29)), color)
    pen.poly(((33, 66), (67, 66), (65, 74), (35, 74)), color)
    pen.oval(50, 44, 10, 10, shade(color, 0.8))
    pen.oval(50, 44, 6.5, 6.5, GLASS)
    pen.rect(46, 66, 54, 88, shade(color, 0.7))
