"""Tiles of the contact sheet and their layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ovseg.data import masks
from ovseg.report.painting import palette, tint

GAP, MARGIN, HEADING = 8, 24, 30
INK, PAPER, SOFT = (30, 32, 38), (250, 249, 246), (96, 100, 110)


def draw_pairs(
    image: NDArray[np.uint8], rows: Sequence[Mapping[str, Any]], tile: int
) -> Image.Image:
    """Draw kept pairs over an image as one tile: each distinct mask once, with its nouns."""
    nouns: dict[bytes, list[str]] = defaultdict(list)
    by_mask: dict[bytes, Mapping[str, Any]] = {}
    for row in rows:
        nouns[row["mask_counts"]].append(row["noun"])
        by_mask[row["mask_counts"]] = row
    order = sorted(by_mask.values(), key=lambda row: -float(row["area_fraction"]))
    canvas, colors = image.copy(), palette(order)
    for row, color in zip(order, colors):
        tint(canvas, masks.decode_row(row, image.shape[:2]), color, 0.35)
    picture = fit(Image.fromarray(canvas), tile)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    height, width = image.shape[:2]
    scale = tile / max(height, width)
    left, top = (tile - width * scale) / 2, (tile - height * scale) / 2
    taken: list[tuple[float, float, float, float]] = []
    for row, color in zip(order, colors):
        ys, xs = np.nonzero(masks.decode_row(row, image.shape[:2]))
        if not xs.size:
            continue
        text = _cut(pen, font, ", ".join(sorted(set(nouns[row["mask_counts"]]))), tile - 6)
        centre = (left + xs.mean() * scale, top + ys.mean() * scale)
        box = _free_box(pen, font, text, centre, taken, picture)
        taken.append(box)
        pen.rounded_rectangle(box, 3, fill=color)
        pen.text((box[0] + 3, box[1] + 1), text, font=font, fill=_ink_on(color))
    return picture


def _ink_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a legible text color, white or ink, by the luma of the background (ITU-R BT.601)."""
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _cut(pen: ImageDraw.ImageDraw, font: Any, text: str, width: int) -> str:
    """Cut a text to a width in pixels, with an ellipsis."""
    whole = text
    while text and pen.textlength(text if text == whole else f"{text}...", font=font) > width:
        text = text[:-1]
    return text if text == whole else f"{text}..."


def _free_box(
    pen: ImageDraw.ImageDraw,
    font: Any,
    text: str,
    centre: tuple[float, float],
    taken: Sequence[tuple[float, float, float, float]],
    picture: Image.Image,
) -> tuple[float, float, float, float]:
    """Place a label near its mask's center, inside the tile, moved down off other labels."""
    width, height = pen.textlength(text, font=font) + 6, 16.0
    x = min(max(0.0, centre[0] - width / 2), max(0.0, picture.width - width))
    y = min(max(0.0, centre[1] - height / 2), picture.height - height)
    for _ in range(picture.height // 16):
        if all(x >= b[2] or x + width <= b[0] or y >= b[3] or y + height <= b[1] for b in taken):
            break
        y = (y + height) % max(1.0, picture.height - height)
    return x, y, x + width, y + height


def fit(picture: Image.Image, tile: int) -> Image.Image:
    """Scale an image to fit a square tile, centered on paper color."""
    scale = tile / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    square = Image.new("RGB", (tile, tile), PAPER)
    resized = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    square.paste(resized, ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return square


def write_captions(captions: Sequence[str], tile: int) -> Image.Image:
    """Draw captions as a square tile, wrapped; text that does not fit is cut."""
    square = Image.new("RGB", (tile, tile), PAPER)
    pen, font, y = ImageDraw.Draw(square), ImageFont.load_default(12), 2
    for caption in captions:
        line = ""
        for word in [*caption.split(), None]:
            longer = f"{line} {word}".strip()
            if word is not None and pen.textlength(longer, font=font) <= tile - 8:
                line = longer
                continue
            if line:
                pen.text((4, y), line, font=font, fill=INK)
                y += 16
            line = word or ""
        y += 6
    return square


def lay_out(
    halves: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Image.Image]]]], tile: int
) -> Image.Image:
    """Lay out sections of (title, column headings, rows of tiles) as one image."""
    columns = max(len(headings) for _, headings, _ in halves)
    width = 2 * MARGIN + columns * tile + (columns - 1) * GAP
    height = MARGIN + sum(
        3 * HEADING + len(rows) * (max((r.height for row in rows for r in row), default=0) + GAP)
        for _, _, rows in halves
    )
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, y = ImageDraw.Draw(sheet), MARGIN
    for title, headings, rows in halves:
        pen.text((MARGIN, y), title, font=ImageFont.load_default(20), fill=INK)
        y += HEADING + 4
        for column, heading in enumerate(headings):
            x = MARGIN + column * (tile + GAP)
            pen.text((x, y), heading, font=ImageFont.load_default(14), fill=SOFT)
        y += HEADING - 6
        for row in rows:
            for column, picture in enumerate(row):
                sheet.paste(picture, (MARGIN + column * (tile + GAP), y))
            y += max(picture.height for picture in row) + GAP
        y += HEADING
    return sheet
