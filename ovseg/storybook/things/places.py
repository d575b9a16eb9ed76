"""Buildings and furniture of streets and gardens, one drawing function per category."""

from __future__ import annotations

import numpy as np

from ovseg.storybook.drawing import COLORS, CREAM, GLASS, INK, WOOD, Color, Pen, shade

_LIT: Color = (252, 226, 130)


def _window(pen: Pen, x: float, y: float, w: float, h: float, glass: Color) -> None:
    pen.rect(x, y, x + w, y + h, glass, ink=0.45)
    pen.line(((x + w / 2, y), (x + w / 2, y + h)), CREAM, 1.6)
    pen.line(((x, y + h / 2), (x + w, y + h / 2)), CREAM, 1.6)


def house(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A house with a pitched roof, chimney, door and windows."""
    roof = COLORS[("red", "brown", "grey", "orange", "blue")[int(rng.integers(5))]]
    roof = shade(roof, 0.85)
    glass = _LIT if rng.random() < 0.4 else GLASS
    peak = rng.uniform(4, 16)
    pen.rect(66, peak + 2, 78, 38, (170, 96, 80))
    pen.rect(64, peak, 80, peak + 6, (150, 84, 70))
    pen.rect(10, 44, 90, 99, color)
    for board in (58, 72, 86):
        pen.line(((12, board), (88, board)), shade(color, 0.9), 1.2)
    pen.poly(((0, 48), (50, peak), (100, 48)), roof)
    for k in (0.35, 0.65):
        y = peak + (48 - peak) * k
        pen.line(((50 - 48 * k, y), (50 + 48 * k, y)), shade(roof, 0.8), 1.4)
    door = 40 if rng.random() < 0.5 else 20
    pen.rect(door, 66, door + 18, 99, shade(WOOD, 0.85))
    pen.dot(door + 14, 84, 2, _LIT)
    for left in (18, 64) if door == 40 else (46, 68):
        _window(pen, left, 58, 15, 17, glass)
    pen.oval(50, 35, 6, 6, glass)


def castle(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A castle: two battlemented towers with pointed roofs, a gate between them."""
    roof = COLORS[("red", "blue", "purple", "green")[int(rng.integers(4))]]

    def battlements(x0: float, x1: float, y: float) -> None:
        step = (x1 - x0) / 5
        for i in range(0, 5, 2):
            pen.rect(x0 + i * step, y - 7, x0 + (i + 1) * step, y + 1, color)

    battlements(28, 72, 50)
    pen.rect(26, 50, 74, 99, color)
    pen.line(((50, 0), (50, 18)), INK, 2)
    pen.poly(((50, 1), (66, 6), (50, 11)), roof)
    battlements(38, 62, 26)
    pen.rect(38, 26, 62, 56, shade(color, 0.92))
    for x in (4, 74):
        pen.rect(x, 42, x + 22, 99, color)
        pen.poly(((x - 4, 43), (x + 11, 12), (x + 26, 43)), roof)
        pen.rect(x + 8, 52, x + 14, 66, (70, 62, 80))
        for y in (74, 84, 92):
            pen.line(((x + 3, y), (x + 9, y)), shade(color, 0.75), 1.6)
            pen.line(((x + 13, y - 4), (x + 19, y - 4)), shade(color, 0.75), 1.6)
    pen.rect(46, 34, 54, 46, (70, 62, 80))
    pen.blob(((38, 99), (38, 78), (50, 66), (62, 78), (62, 99)), shade(WOOD, 0.7))
    pen.line(((50, 68), (50, 98)), shade(WOOD, 0.45), 1.6)


def windmill(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A tower mill with four lattice sails."""
    pen.poly(((32, 99), (38, 44), (62, 44), (68, 99)), color)
    for y in (58, 72, 86):
        pen.line(((37 - (y - 44) * 0.08, y), (63 + (y - 44) * 0.08, y)), shade(color, 0.86), 1.4)
    pen.blob(((35, 46), (38, 32), (50, 24), (62, 32), (65, 46)), (176, 84, 64))
    pen.blob(((43, 99), (43, 84), (50, 78), (57, 84), (57, 99)), shade(WOOD, 0.8))
    _window(pen, 46, 56, 8, 11, GLASS)
    turn = rng.uniform(0, np.pi / 2)
    hub = np.array([50.0, 38.0])
    for i in range(4):
        a = turn + i * np.pi / 2
        along = np.array([np.cos(a), np.sin(a)])
        across = np.array([-along[1], along[0]])
        pen.poly(
            np.stack(
                [
                    hub + along * 12,
                    hub + along * 46,
                    hub + along * 46 + across * 11,
                    hub + along * 12 + across * 11,
                ]
            ),
            CREAM,
        )
        for k in (20, 29, 38):
            start, end = hub + along * k, hub + along * k + across * 11
            pen.line(((start[0], start[1]), (end[0], end[1])), shade(WOOD, 0.9), 1.4)
        tip = hub + along * 47
        pen.line(((hub[0], hub[1]), (tip[0], tip[1])), shade(WOOD, 0.7), 2.6)
    pen.dot(50, 38, 4.5, shade(WOOD, 0.5))


def bridge(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A humped stone bridge with two or three arches and a parapet."""
    arches = int(rng.integers(2, 4))
    pen.blob(((-4, 90), (-2, 56), (24, 40), (50, 34), (76, 40), (102, 56), (104, 90)), color)
    pen.rect(-4, 78, 104, 92, color, ink=None)
    x = np.linspace(-2, 102, 15)
    top = 36 + (x - 50) ** 2 / 130
    pen.line(np.stack([x, top + 4], 1).tolist(), shade(color, 0.7), 4)
    for _ in range(12):
        bx, by = rng.uniform(4, 92), rng.uniform(56, 84)
        pen.line(((bx, by), (bx + 7, by)), shade(color, 0.78), 1.6)
    width = 96 / arches
    for i in range(arches):
        cx = 2 + width * (i + 0.5)
        pen.oval(cx, 92, width * 0.4, 34, shade(color, 0.6))
        pen.cut(cx, 93, width * 0.34, 30)
    pen.clear(-20, 92, 120, 130)


def tent(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A striped tent with an open flap and a pennant."""
    other = CREAM
    pen.line(((50, 6), (50, 24)), INK, 2.4)
    pen.poly(((50, 4), (68, 9), (50, 15)), COLORS["red" if rng.random() < 0.5 else "yellow"])
    base = np.linspace(0, 100, 8)
    for i in range(7):
        pen.poly(((50, 20), (base[i], 98), (base[i + 1], 98)), color if i % 2 == 0 else other)
    pen.poly(((50, 50), (36, 98), (64, 98)), shade(color, 0.35))
    pen.poly(((50, 50), (36, 98), (27, 98)), shade(color, 0.8))
    pen.line(((0, 98), (-6, 102)), WOOD, 2)
    pen.line(((100, 98), (106, 102)), WOOD, 2)


def fence(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A picket fence: pointed slats on two rails, sky between the slats."""
    slats = int(rng.integers(5, 8))
    for y in (58, 80):
        pen.rect(0, y, 108, y + 6, shade(color, 0.85))
    step = 104 / slats
    for i in range(slats):
        x = 2 + i * step
        w = step * 0.58
        pen.poly(((x, 99), (x, 50), (x + w / 2, 40), (x + w, 50), (x + w, 99)), color)
        pen.dot(x + w / 2, 61, 1.4, shade(color, 0.5))
        pen.dot(x + w / 2, 83, 1.4, shade(color, 0.5))


def lamp(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A lamp post with a glazed lantern."""
    pen.rect(38, 92, 62, 99, color)
    pen.rect(42, 84, 58, 92, color)
    pen.rect(47, 34, 53, 86, color)
    pen.line(((38, 42), (62, 42)), shade(color, 0.8), 4)
    pen.poly(((40, 36), (34, 12), (66, 12), (60, 36)), _LIT, ink=0.4)
    pen.oval(50, 24, 6, 8, (255, 250, 214), ink=None)
    pen.line(((50, 12), (50, 36)), color, 1.8)
    pen.poly(((30, 13), (50, -2), (70, 13)), color)
    pen.dot(50, -1, 3.4, color)


def bench(pen: Pen, rng: np.random.Generator, color: Color) -> None:
    """A slatted bench with a back rest and iron legs."""
    iron = (74, 74, 84)
    for x in (10, 84):
        pen.rect(x, 36, x + 6, 72, iron)
        pen.poly(((x - 2, 99), (x, 70), (x + 7, 70), (x + 9, 99)), iron)
    for y in (36, 47, 58):
        pen.rect(0, y, 100, y + 8, color)
    pen.poly(((2, 68), (98, 68), (104, 80), (-4, 80)), shade(color, 1.12))
    pen.line(((0, 74), (100, 74)), shade(color, 0.6), 1.6)
    for x in (1, 99):
        pen.line(((x, 56), (x, 70)), iron, 4)
