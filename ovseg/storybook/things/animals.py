"""The animals of the storybook, one drawing function per category."""

from __future__ import annotations

import numpy as np

from ovseg.storybook.drawing import COLORS, INK, Color, Pen, shade


def _eye(pen: Pen, x: float, y: float, r: float = 3.0) -> None:
    pen.dot(x, y, r, (255, 255, 255))
    pen.dot(x + 0.8, y + 0.4, r * 0.66)


def dog(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A standing dog in profile: hanging ear, raised tail, collar."""
    dark = shade(color, 0.72)
    for x in (22, 34, 60, 72):
        pen.rect(x, 66, x + 9, 99, dark if x in (34, 72) else color)
    up = rng.uniform(0, 14)
    pen.blob(((16, 52), (4, 34 - up), (1, 24 - up), (9, 28 - up), (24, 46)), color)
    pen.blob(((14, 54), (28, 44), (60, 46), (82, 40), (84, 62), (70, 76), (26, 76)), color)
    if rng.random() < 0.5:
        pen.oval(40, 55, 11, 7, dark, ink=None)
    pen.ball(80, 31, 19, 17, color)
    pen.oval(95, 37, 10, 7.5, shade(color, 1.3))
    pen.dot(103, 34, 3.6)
    pen.blob(((66, 18), (74, 20), (74, 42), (67, 52), (60, 40)), dark)
    pen.line(((66, 49), (84, 51)), COLORS["red" if rng.random() < 0.5 else "blue"], 5)
    _eye(pen, 84, 27)


def cat(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A cat sitting upright: pointed ears, whiskers, curled tail."""
    dark = shade(color, 0.7)
    pen.line(((68, 92), (88, 92), (95, 80), (92, 62), (86, 58)), shade(color, 0.55), 10)
    pen.line(((68, 92), (88, 92), (95, 80), (92, 62), (86, 58)), color, 7)
    pen.blob(((30, 98), (26, 76), (36, 52), (64, 52), (76, 76), (72, 98)), color)
    if rng.random() < 0.6:
        for y in (66, 74, 82):
            pen.line(((62, y), (73, y - 2)), dark, 3)
    pen.oval(49, 80, 11, 15, shade(color, 1.5), ink=None)
    pen.oval(40, 96, 8, 5, color)
    pen.oval(58, 96, 8, 5, color)
    for side in (-1, 1):
        pen.poly(((50 + side * 25, 6), (50 + side * 26, 34), (50 + side * 7, 22)), color)
        pen.poly(
            ((50 + side * 22, 13), (50 + side * 22, 26), (50 + side * 13, 22)),
            (236, 160, 160),
            ink=None,
        )
    pen.ball(50, 37, 28, 22, color)
    for side in (-1, 1):
        pen.oval(50 + side * 11, 34, 5, 6, (190, 220, 90))
        pen.oval(50 + side * 11, 34, 1.8, 5, INK, ink=None)
        for dy in (-2, 3):
            pen.line(((50 + side * 12, 46 + dy), (50 + side * 36, 43 + 2.2 * dy)), INK, 1.3)
    pen.poly(((46, 43), (54, 43), (50, 48)), (226, 120, 130), ink=None)


def rabbit(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A crouching rabbit in profile: two long ears and a round tail."""
    lean = rng.uniform(-5, 5)
    for dx, shadefactor in ((10, 0.85), (0, 1.0)):
        ear = ((60 + dx, 40), (55 + dx + lean, 16), (60 + dx + lean, 0), (67 + dx + lean, 14))
        pen.blob((*ear, (70 + dx, 40)), shade(color, shadefactor))
    pen.oval(61 + lean * 0.8, 18, 2.6, 12, (240, 170, 180), ink=None)
    pen.ball(10, 78, 11, 11, shade(color, 1.6))
    pen.blob(((12, 88), (16, 62), (40, 50), (62, 56), (76, 80), (70, 97), (24, 98)), color)
    pen.oval(34, 80, 19, 17, shade(color, 0.93))
    pen.oval(30, 96, 17, 5, shade(color, 1.2))
    pen.oval(66, 95, 11, 5, shade(color, 1.2))
    pen.ball(72, 47, 20, 16, color)
    pen.dot(91, 47, 3, (226, 110, 130))
    _eye(pen, 78, 42, 3.6)
    pen.line(((86, 52), (99, 50)), INK, 1.2)
    pen.line(((86, 54), (98, 57)), INK, 1.2)


def sheep(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A woolly sheep: a cloud of curls on four thin legs, a dark face."""
    for x in (26, 38, 60, 71):
        pen.rect(x, 70, x + 7, 98, (80, 72, 74))
    curls = 11
    turn = rng.uniform(0, 1)
    for i in range(curls):
        a = 2 * np.pi * (i + turn) / curls
        pen.oval(48 + 32 * np.cos(a), 54 + 19 * np.sin(a), 13, 12, shade(color, 0.93))
    pen.oval(48, 54, 34, 22, color, ink=None)
    for x, y in ((32, 48), (48, 42), (62, 52), (44, 60), (30, 62), (58, 66)):
        pen.line(((x - 5, y), (x, y + 4), (x + 5, y)), shade(color, 0.78), 2)
    face = (88, 76, 78)
    pen.oval(70, 38, 8, 4, face, tilt=-0.4)
    pen.oval(98, 38, 7, 4, face, tilt=0.5)
    pen.oval(85, 46, 12, 16, face)
    pen.oval(82, 31, 12, 8, color)
    _eye(pen, 82, 43, 3)
    _eye(pen, 91, 43, 3)


def duck(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A swimming duck: upturned tail, wing, flat orange beak."""
    pen.blob(
        ((2, 50), (14, 58), (40, 56), (58, 52), (84, 60), (86, 80), (66, 94), (28, 94), (10, 80)),
        color,
    )
    pen.blob(((26, 66), (48, 60), (62, 68), (52, 82), (34, 82), (18, 74)), shade(color, 0.82))
    pen.line(((34, 78), (50, 76)), shade(color, 0.6), 2)
    pen.blob(((56, 58), (58, 40), (84, 40), (86, 64)), color, ink=None)
    pen.ball(70, 32, 20, 18, color)
    pen.blob(((86, 28), (98, 30), (106, 36), (96, 41), (86, 40)), (240, 140, 40))
    _eye(pen, 76, 27, 3.6)


def bird(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A flying bird in profile with both wings raised and a forked tail."""
    lift = rng.uniform(-6, 14)
    pen.blob(
        ((46, 52), (48, 24 - lift), (62, 8 - lift), (66, 30 - lift), (66, 52)), shade(color, 0.7)
    )
    pen.poly(((28, 56), (0, 46), (8, 58), (0, 70), (30, 64)), shade(color, 0.75))
    pen.blob(((22, 60), (44, 46), (72, 42), (84, 54), (70, 72), (42, 74)), color)
    pen.blob(((40, 66), (56, 64), (72, 66), (60, 73), (44, 73)), shade(color, 1.55), ink=None)
    pen.ball(80, 47, 14, 13, color)
    pen.poly(((92, 43), (108, 50), (92, 53)), (244, 176, 50))
    pen.blob(
        ((36, 56), (24, 30 - lift), (30, 10 - lift), (44, 26 - lift), (60, 56)), shade(color, 0.85)
    )
    pen.line(((34, 32 - lift), (46, 52)), shade(color, 0.55), 1.6)
    _eye(pen, 83, 44, 3.2)


def fish(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A fish in profile: fan tail, fins, scales or stripes."""
    fin = shade(color, 0.75)
    pen.blob(((20, 50), (2, 26), (-2, 36), (6, 50), (-2, 66), (2, 76)), fin)
    pen.blob(((40, 32), (52, 14), (72, 16), (70, 34)), fin)
    pen.blob(((44, 68), (50, 84), (62, 80), (62, 68)), fin)
    pen.blob(
        ((14, 50), (36, 30), (64, 26), (90, 38), (100, 52), (88, 66), (62, 76), (36, 70)), color
    )
    if rng.random() < 0.5:
        for x in (38, 52, 66):
            pen.line(((x, 33), (x + 4, 50), (x, 68)), shade(color, 1.6), 4)
    else:
        for x in (34, 45, 56, 67):
            for y in (42, 52, 62):
                pen.line(((x + 3, y - 4), (x, y), (x + 3, y + 4)), shade(color, 0.68), 1.6)
    pen.line(((77, 34), (73, 50), (77, 68)), shade(color, 0.6), 2)
    pen.oval(62, 56, 8, 4, fin, tilt=0.4)
    _eye(pen, 87, 45, 5)
    pen.line(((92, 59), (98, 56)), INK, 1.6)


def snail(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A snail: spiral shell on a long foot, two stalked eyes."""
    body = (224, 196, 150)
    for x in (86, 97):
        pen.line(((86, 76), (x, 44)), shade(body, 0.6), 4)
        pen.line(((86, 76), (x, 44)), body, 2.4)
        pen.dot(x, 43, 4)
    pen.blob(((0, 98), (20, 88), (60, 88), (74, 74), (84, 66), (96, 72), (96, 88), (84, 98)), body)
    pen.ball(43, 61, 34, 32, color)
    t = np.linspace(0, 2 * np.pi * 2.3, 40)
    radius = 27 - 24 * t / t[-1]
    start = rng.uniform(0, 1)
    spiral = np.stack([43 + radius * np.cos(t + start), 61 + radius * 0.94 * np.sin(t + start)], 1)
    pen.line(spiral.tolist(), shade(color, 0.55), 3)
    pen.line(((87, 84), (93, 82)), INK, 1.6)


def butterfly(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A butterfly from above: four patterned wings, thin body, feelers."""
    spot = COLORS["yellow" if rng.random() < 0.5 else "white"]
    for s in (-1, 1):
        low = ((50, 52), (50 + s * 30, 58), (50 + s * 36, 80), (50 + s * 20, 94), (50 + s * 6, 76))
        pen.blob(low, shade(color, 0.8))
        top = ((50, 50), (50 + s * 16, 18), (50 + s * 44, 8), (50 + s * 48, 34), (50 + s * 30, 56))
        pen.blob(top, color, ink=0.4)
        pen.oval(50 + s * 32, 28, 8, 7, spot, ink=0.7)
        pen.oval(50 + s * 24, 72, 6, 6, spot, ink=0.7)
        pen.dot(50 + s * 42, 40, 2.5, spot)
        pen.line(((50, 32), (50 + s * 7, 16), (50 + s * 13, 11)), INK, 1.8)
    pen.oval(50, 55, 4.5, 26, (70, 54, 50), ink=0.6)
    pen.dot(50, 31, 5.5, (70, 54, 50))
