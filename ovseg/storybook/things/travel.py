"""Vehicles, plants and fruit, one drawing function per category."""

from __future__ import annotations

import numpy as np

from ovseg.storybook.drawing import COLORS, CREAM, GLASS, INK, STEEL, WOOD, Color, Pen, shade


def boat(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A sailing boat with two sails and a pennant."""
    sail = CREAM if rng.random() < 0.6 else COLORS[("red", "orange", "blue")[int(rng.integers(3))]]
    pen.line(((50, 0), (50, 76)), shade(WOOD, 0.7), 3.4)
    pen.poly(((50, -2), (66, 3), (50, 8)), COLORS["red"])
    pen.blob(((46, 10), (44, 62), (10, 66), (22, 46)), sail)
    pen.poly(((54, 14), (54, 66), (88, 66)), shade(sail, 0.88))
    for y in (30, 48):
        pen.line(((44 - (y - 10) * 0.4, y + 6), (44, y)), shade(sail, 0.8), 1.4)
    pen.blob(((0, 74), (50, 76), (104, 70), (92, 92), (78, 99), (24, 99), (10, 92)), color)
    pen.line(((5, 82), (50, 84), (97, 80)), shade(color, 1.6), 3)
    for x in (32, 50, 68):
        pen.oval(x, 90, 3.4, 3.4, GLASS)


def car(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A rounded little car in profile."""
    roof = rng.uniform(28, 36)
    pen.blob(((20, 60), (32, roof), (66, roof - 2), (84, 60)), color)
    pen.poly(((30, 58), (37, roof + 7), (49, roof + 6), (49, 58)), GLASS, ink=0.5)
    pen.poly(((54, 58), (54, roof + 6), (65, roof + 7), (75, 58)), GLASS, ink=0.5)
    pen.blob(((0, 72), (4, 60), (40, 56), (86, 58), (101, 66), (102, 82), (90, 86), (8, 86)), color)
    pen.rect(-2, 78, 103, 84, shade(color, 0.7))
    pen.line(((51, 60), (51, 78)), shade(color, 0.6), 1.6)
    pen.line(((56, 66), (62, 66)), INK, 2)
    pen.oval(98, 68, 4, 5, (254, 236, 150))
    for x in (24, 78):
        pen.oval(x, 85, 14, 14, (58, 56, 62))
        pen.oval(x, 85, 7, 7, STEEL)
        pen.dot(x, 85, 2.4)


def train(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A steam engine: boiler, funnel, cab, red wheels."""
    dark = shade(color, 0.7)
    pen.poly(((78, 44), (74, 24), (92, 24), (88, 44)), (64, 62, 70))
    pen.rect(71, 18, 95, 26, (64, 62, 70))
    pen.oval(58, 42, 7, 7, (216, 176, 70))
    pen.rect(36, 42, 96, 74, color)
    pen.rect(38, 46, 94, 52, shade(color, 1.3), ink=None)
    for x in (50, 66, 82):
        pen.line(((x, 43), (x, 73)), (226, 190, 84), 2.4)
    pen.rect(2, 26, 38, 76, dark)
    pen.rect(10, 34, 30, 52, GLASS, ink=0.45)
    pen.rect(-3, 18, 43, 27, (64, 62, 70))
    pen.rect(0, 74, 100, 82, (76, 74, 82))
    pen.poly(((96, 76), (112, 96), (94, 96)), (190, 60, 50))
    pen.oval(97, 54, 4, 5, (254, 236, 150))
    wheel = COLORS["red"] if rng.random() < 0.7 else STEEL
    for x, r in ((18, 14), (48, 11), (70, 11), (88, 9)):
        pen.oval(x, 99 - r, r, r, (60, 58, 64))
        pen.oval(x, 99 - r, r * 0.66, r * 0.66, wheel)
        pen.dot(x, 99 - r, 2.4)
    pen.line(((18, 86), (70, 89)), STEEL, 3)


def tree(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A tree: round crown of leaves, or the tiers of a fir."""
    autumn = color[0] > color[1]
    if autumn or rng.random() < 0.5:
        trunk = ((40, 99), (44, 78), (43, 50), (57, 50), (56, 78), (62, 99))
        pen.poly(trunk, WOOD)
        pen.line(((48, 62), (49, 92)), shade(WOOD, 0.7), 1.6)
        spots = [(30, 44, 22), (70, 44, 22), (38, 24, 21), (62, 22, 21), (50, 40, 24), (50, 14, 16)]
        moved = [(x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), r) for x, y, r in spots]
        for x, y, r in moved:
            pen.oval(x, y, r, r * 0.92, shade(color, 0.8))
        for x, y, r in moved:
            pen.oval(x - 1, y - 2, r * 0.86, r * 0.78, color, ink=None)
        for _ in range(14):
            x, y = rng.uniform(22, 78), rng.uniform(8, 54)
            pen.line(((x - 4, y), (x, y + 3), (x + 4, y)), shade(color, 0.72), 1.8)
        for x, y, r in moved[:5]:
            pen.oval(x - r * 0.35, y - r * 0.4, r * 0.32, r * 0.26, shade(color, 1.25), ink=None)
    else:
        pen.rect(43, 80, 57, 99, WOOD)
        for top, base, half in ((46, 88, 38), (24, 66, 31), (0, 44, 23)):
            along = np.linspace(-1, 1, 7)
            hem = np.stack([50 + along * half, base + 4 * (np.arange(7) % 2)], 1)
            pen.poly(np.concatenate([hem, [[50.0, top]]]), color)
            pen.line(((50, top + 6), (50 - half * 0.6, base - 5)), shade(color, 1.25), 2.4)


def flower(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """One large flower on a stem with two leaves."""
    green = (74, 150, 70)
    pen.line(((50, 40), (52, 70), (50, 99)), shade(green, 0.6), 6)
    pen.line(((50, 40), (52, 70), (50, 99)), green, 4)
    pen.blob(((50, 88), (66, 66), (84, 66), (72, 82)), green)
    pen.blob(((50, 94), (36, 76), (18, 74), (30, 90)), green)
    petals = int(rng.integers(5, 9))
    long = rng.uniform(15, 18)
    for i in range(petals):
        a = 2 * np.pi * i / petals - np.pi / 2
        wide = 60 / petals
        pen.oval(50 + 19 * np.cos(a), 34 + 19 * np.sin(a), long, wide, color, tilt=a, ink=0.65)
    middle: Color = (246, 196, 60) if color[2] > 100 or color[1] < 180 else (150, 96, 50)
    pen.ball(50, 34, 10, 10, middle)


def mushroom(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A toadstool with a spotted cap."""
    pen.blob(((36, 99), (40, 74), (38, 52), (62, 52), (60, 74), (66, 99)), CREAM)
    pen.oval(50, 66, 14, 4, shade(CREAM, 0.9))
    high = rng.uniform(2, 14)
    pen.blob(
        (
            (2, 54),
            (10, 32),
            (32, high + 6),
            (50, high),
            (68, high + 6),
            (90, 32),
            (98, 54),
            (50, 60),
        ),
        color,
    )
    spot = CREAM if sum(color) < 640 else COLORS["red"]
    for x, y, r in (
        (48, high + 16, 8),
        (24, 38, 7),
        (74, 36, 8),
        (52, 44, 6),
        (88, 48, 4),
        (12, 49, 4),
    ):
        pen.oval(x, y, r, r * 0.8, spot, ink=0.8)


def apple(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """An apple with stalk and leaf."""
    pen.blob(
        (
            (50, 30),
            (30, 22),
            (8, 38),
            (10, 70),
            (34, 98),
            (50, 93),
            (66, 98),
            (90, 70),
            (92, 38),
            (70, 22),
        ),
        color,
    )
    pen.oval(44, 56, 30, 28, shade(color, 1.08), ink=None)
    pen.oval(30, 46, 8, 12, shade(color, 1.5), ink=None, tilt=0.4)
    pen.line(((50, 32), (51, 18), (56, 6)), shade(WOOD, 0.6), 5)
    if rng.random() < 0.8:
        pen.blob(((54, 18), (66, 4), (86, 4), (74, 18)), (96, 170, 70))
