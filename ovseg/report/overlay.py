"""Label maps drawn over images: colours, outlines and a legend.

overlay(image, labels, ["moon", "tree"]).save("overlay.png")
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ovseg.data.images import ImageArray

Colour = tuple[int, int, int]

# Told apart by eye at a glance, in the order in which names get them.
_BASE: tuple[Colour, ...] = (
    (230, 85, 75),
    (70, 140, 220),
    (90, 175, 90),
    (240, 180, 60),
    (150, 100, 200),
    (60, 185, 185),
    (235, 130, 180),
    (150, 115, 80),
    (130, 150, 60),
    (245, 135, 60),
    (90, 95, 170),
    (160, 210, 120),
)

_LIGHTNESS = (0.52, 0.72, 0.36)
_SATURATION = (0.75, 0.45)
_INK: Colour = (32, 32, 36)
_PAPER: Colour = (250, 249, 246)
_MIN_FONT, _MAX_FONT = 12, 22


def palette(names: Sequence[object]) -> list[Colour]:
    """A colour for each name by its place, all different; the first dozen are told apart at once.

    Args:
        names: class names, or whatever else is coloured: their number counts, not their text.

    Returns:
        RGB 0..255, one a name.
    """
    colours: list[Colour] = list(_BASE[: len(names)])
    taken, place = set(colours), 0
    while len(colours) < len(names):
        # golden-ratio steps spread the hues; places of one hue (5, 8, 13 apart) differ in lightness
        hue = (0.13 + 0.618034 * place) % 1.0
        light, full = _LIGHTNESS[place % 3], _SATURATION[place // 3 % 2]
        r, g, b = colorsys.hls_to_rgb(hue, light, full)
        colour = (round(255 * r), round(255 * g), round(255 * b))
        if colour not in taken:
            taken.add(colour)
            colours.append(colour)
        place += 1
    return colours


def overlay(
    image: ImageArray,
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    alpha: float = 0.55,
    hidden: Sequence[int] = (),
    legend: bool = True,
    colours: Sequence[Colour] | None = None,
) -> Image.Image:
    """Colour every segment of an image, outline it, and list the classes that occur below.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        labels: `(H, W)` class indices; anything outside 0..K-1 is left as it is.
        classes: K names.
        alpha: weight of the colour, 0..1.
        hidden: classes that are left as they are and out of the legend.
        legend: draw the legend.
        colours: K colours; `palette(classes)` by default.

    Returns:
        An RGB image of width W (at least 160 with a legend) and height H plus the legend's.

    Raises:
        ValueError: sizes that do not fit, or an alpha outside 0..1.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"labels {labels.shape} do not fit an image of {image.shape[:2]}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is within 0..1, not {alpha}")
    colours = palette(classes) if colours is None else list(colours)
    present, sizes = np.unique(labels, return_counts=True)
    shown = [
        (int(size), int(index))
        for index, size in zip(present, sizes)
        if 0 <= index < len(classes) and int(index) not in set(hidden)
    ]
    painted = image.astype(np.float32)
    for _, index in shown:
        where = labels == index
        painted[where] += alpha * (np.array(colours[index], np.float32) - painted[where])
    drawn = np.isin(labels, [index for _, index in shown])
    painted[borders(labels) & drawn] *= 0.35
    picture = Image.fromarray(np.clip(painted + 0.5, 0, 255).astype(np.uint8))
    if not legend or not shown:
        return picture
    ordered = [index for _, index in sorted(shown, reverse=True)]
    return _with_legend(picture, [(classes[i].strip(), colours[i]) for i in ordered])


def borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """`(H, W)` bool, true on the upper and left pixels of each step between labels."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge


# --------------------------------------------------------------------------------------
# Legend


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(_MIN_FONT, min(_MAX_FONT, round(width / 32))))


def _fitted(text: str, room: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, cut with an ellipsis where it is wider than `room` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """Put the picture above rows of colour chips with their names."""
    width = max(picture.width, 160)
    font = _font(width)
    line = round(font.getbbox("Ag")[3] * 1.5)
    chip, margin = round(line * 0.62), round(line * 0.5)
    gap = round(line * 0.35)
    rows: list[list[tuple[str, Colour, float]]] = [[]]
    right = float(margin)
    for name, colour in entries:
        label = _fitted(name, width - 2 * margin - chip - gap, font)
        needed = chip + gap + font.getlength(label)
        if rows[-1] and right + needed > width - margin:
            rows.append([])
            right = float(margin)
        rows[-1].append((label, colour, right))
        right += needed + 2 * gap
    height = picture.height + margin + line * len(rows) + margin // 2
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for row, items in enumerate(rows):
        middle = picture.height + margin + line * row + line / 2 - margin / 4
        for label, colour, left in items:
            box = (left, middle - chip / 2, left + chip, middle + chip / 2)
            draw.rounded_rectangle(box, radius=chip / 4, fill=colour, outline=_INK)
            draw.text((left + chip + gap, middle), label, fill=_INK, font=font, anchor="lm")
    return sheet
