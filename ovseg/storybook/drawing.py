"""The pen of the storybook: outlined, shaded shapes on a supersampled transparent sheet.

A thing is drawn in units: its body spans about 0..100 both ways, y grows downwards, and the ground
is at y = 100. The pen holds the pose (flip, rotation, stretch), so a drawing function only defines
the thing's appearance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Color = tuple[int, int, int]
Points = Sequence[tuple[float, float]]

SUPERSAMPLING = 3
_SHEET = 150.0  # units per side: room for rotation and stretch around the 100-unit body
_TURN = np.linspace(0.0, 2.0 * np.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)

COLORS: dict[str, Color] = {
    "red": (212, 62, 56),
    "orange": (238, 136, 48),
    "yellow": (246, 206, 70),
    "green": (84, 160, 82),
    "blue": (66, 124, 206),
    "purple": (138, 90, 178),
    "pink": (242, 148, 178),
    "brown": (152, 100, 62),
    "white": (246, 243, 236),
    "black": (66, 64, 72),
    "grey": (154, 156, 162),
}

INK: Color = (52, 44, 48)
CREAM: Color = (252, 244, 222)
WOOD: Color = (164, 112, 70)
GLASS: Color = (176, 220, 240)
STEEL: Color = (176, 182, 190)


def shade(color: Color, factor: float) -> Color:
    """Darken (factor < 1) or lighten towards white (factor > 1, 2 is white)."""
    if factor <= 1.0:
        r, g, b = (int(c * factor) for c in color)
    else:
        r, g, b = (int(c + (255 - c) * (factor - 1.0)) for c in color)
    return r, g, b


def jitter(color: Color, rng: np.random.Generator) -> Color:
    """Move a color by up to 14 per channel, within 0..255."""
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(color, rng.integers(-14, 14, 3)))
    return r, g, b


class Pen:
    """Draws outlined shapes in a 100-unit frame and returns a small RGBA sprite."""

    def __init__(
        self,
        *,
        pixels: float,
        flip: bool = False,
        angle: float = 0.0,
        stretch: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """Prepare a transparent sheet.

        Args:
            pixels: Final size in pixels of 100 units.
            flip: Mirror left and right.
            angle: Rotation around the middle of the body in radians.
            stretch: Factors on width and height.
        """
        self._unit = pixels * SUPERSAMPLING / 100.0
        side = int(np.ceil(self._unit * _SHEET / SUPERSAMPLING)) * SUPERSAMPLING
        self._sheet = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self._sheet)
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        scale = np.diag([stretch[0] * (-1.0 if flip else 1.0), stretch[1]])
        self._matrix = (np.array([[cos, -sin], [sin, cos]]) @ scale).T * self._unit
        self._offset = np.array([side / 2.0, side / 2.0])
        self._ink = max(1, round(1.7 * self._unit))

    def _place(self, points: Points | NDArray[np.float64]) -> list[float]:
        array = np.asarray(points, dtype=np.float64) - 50.0
        return cast(list[float], (array @ self._matrix + self._offset).ravel().tolist())

    def poly(
        self, points: Points | NDArray[np.float64], color: Color, *, ink: float | None = 0.55
    ) -> None:
        """Fill a polygon; `ink` darkens its outline (None: no outline)."""
        flat = self._place(points)
        self._draw.polygon(flat, fill=(*color, 255))
        if ink is not None:
            self._draw.line(flat + flat[:4], fill=(*shade(color, ink), 255), width=self._ink)

    def rect(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        color: Color,
        *,
        ink: float | None = 0.55,
    ) -> None:
        """Fill the box (x0, y0)-(x1, y1)."""
        self.poly(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), color, ink=ink)

    def oval(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        color: Color,
        *,
        ink: float | None = 0.55,
        tilt: float = 0.0,
    ) -> None:
        """Fill an ellipse with semi-axes rx, ry, turned by `tilt` radians."""
        ring = _CIRCLE * (rx, ry)
        if tilt:
            cos, sin = np.cos(tilt), np.sin(tilt)
            ring = ring @ np.array([[cos, sin], [-sin, cos]])
        self.poly(np.add(ring, (cx, cy)), color, ink=ink)

    def ball(self, cx: float, cy: float, rx: float, ry: float, color: Color) -> None:
        """Draw an ellipse shaded as a sphere lit from the upper left."""
        self.oval(cx, cy, rx, ry, shade(color, 0.86))
        self.oval(cx - rx * 0.1, cy - ry * 0.12, rx * 0.78, ry * 0.76, color, ink=None)
        lit = shade(color, 1.22)
        self.oval(cx - rx * 0.26, cy - ry * 0.3, rx * 0.42, ry * 0.38, lit, ink=None)

    def blob(self, points: Points, color: Color, *, ink: float | None = 0.55) -> None:
        """Fill the smooth closed curve through the points (Catmull-Rom)."""
        self.poly(smooth(points), color, ink=ink)

    def line(self, points: Points, color: Color, width: float = 2.0) -> None:
        """Draw a polyline of the given width in units."""
        pixels = max(1, round(width * self._unit))
        self._draw.line(self._place(points), fill=(*color, 255), width=pixels, joint="curve")

    def dot(self, cx: float, cy: float, r: float, color: Color = INK) -> None:
        """Draw a small disk without an outline, for eyes and buttons."""
        self.oval(cx, cy, r, r, color, ink=None)

    def cut(self, cx: float, cy: float, rx: float, ry: float) -> None:
        """Make an ellipse transparent again."""
        self._draw.polygon(self._place(_CIRCLE * (rx, ry) + (cx, cy)), fill=(0, 0, 0, 0))

    def clear(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Make a box transparent again."""
        corners = self._place(((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        self._draw.polygon(corners, fill=(0, 0, 0, 0))

    def sprite(self) -> NDArray[np.float32]:
        """Return the drawing, cropped to its pixels.

        Returns:
            (h, w, 4) float32: RGB in 0..255 and alpha in 0..1.
        """
        box = self._sheet.getbbox(alpha_only=True)
        if box is None:
            raise ValueError("nothing was drawn on this sheet")
        n = SUPERSAMPLING
        grid = (box[0] // n * n, box[1] // n * n, -(-box[2] // n) * n, -(-box[3] // n) * n)
        array = np.array(self._sheet.crop(grid).reduce(n), dtype=np.float32)
        array[..., 3] /= 255.0
        return array


def smooth(points: Points) -> NDArray[np.float64]:
    """Return the closed Catmull-Rom curve through (N, 2) points as an (N * 6, 2) polygon."""
    p1 = np.asarray(points, dtype=np.float64)[:, None, :]
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = np.linspace(0.0, 1.0, 6, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return cast(NDArray[np.float64], curve.reshape(-1, 2))
