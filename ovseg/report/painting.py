"""Masks and label maps over images: the one painter of the contact sheet, the report and the CLI.

    overlay(image, labels, ["moon", "tree"]).save("overlay.png")

`overlay` colors a label map, `draw_masks` a list of masks. A mask in a page is an SVG path over the
image with everything outside dimmed, so that it is visible without color.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ovseg.data import masks
from ovseg.data.images import ImageArray

Color = tuple[int, int, int]

# Easily distinguished, in the order in which names get them.
_BASE: tuple[Color, ...] = (
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
_INK: Color = (32, 32, 36)
_PAPER: Color = (250, 249, 246)
_MIN_FONT, _MAX_FONT = 12, 22


def palette(names: Sequence[object]) -> list[Color]:
    """Return a distinct color for each name by position; the first dozen differ most.

    Args:
        names: class names or other things to color; only their number matters.

    Returns:
        RGB 0..255, one per name.
    """
    colors: list[Color] = list(_BASE[: len(names)])
    taken, place = set(colors), 0
    while len(colors) < len(names):
        # golden-ratio steps spread the hues; positions of one hue (5, 8, 13 apart) differ in light
        hue = (0.13 + 0.618034 * place) % 1.0
        light, full = _LIGHTNESS[place % 3], _SATURATION[place // 3 % 2]
        r, g, b = colorsys.hls_to_rgb(hue, light, full)
        color = (round(255 * r), round(255 * g), round(255 * b))
        if color not in taken:
            taken.add(color)
            colors.append(color)
        place += 1
    return colors


def overlay(
    image: ImageArray,
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    alpha: float = 0.55,
    hidden: Sequence[int] = (),
    legend: bool = True,
    colors: Sequence[Color] | None = None,
) -> Image.Image:
    """Color and outline every segment of an image, and list the classes that occur below it.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        labels: `(H, W)` class indices; pixels outside 0..K-1 are left unchanged.
        classes: K names.
        alpha: weight of the color, 0..1.
        hidden: classes that are neither colored nor in the legend.
        legend: whether to draw the legend.
        colors: K colors; defaults to `palette(classes)`.

    Returns:
        An RGB image of width W (at least 160 with a legend) and height H plus the legend's.

    Raises:
        ValueError: if the sizes differ or alpha is outside 0..1.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"labels {labels.shape} do not fit an image of {image.shape[:2]}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in 0..1, not {alpha}")
    colors = palette(classes) if colors is None else list(colors)
    present, sizes = np.unique(labels, return_counts=True)
    shown = [
        (int(size), int(index))
        for index, size in zip(present, sizes)
        if 0 <= index < len(classes) and int(index) not in set(hidden)
    ]
    painted = image.astype(np.float32)
    for _, index in shown:
        where = labels == index
        painted[where] += alpha * (np.array(colors[index], np.float32) - painted[where])
    drawn = np.isin(labels, [index for _, index in shown])
    painted[borders(labels) & drawn] *= 0.35
    picture = Image.fromarray(np.clip(painted + 0.5, 0, 255).astype(np.uint8))
    if not legend or not shown:
        return picture
    ordered = [index for _, index in sorted(shown, reverse=True)]
    return _with_legend(picture, [(classes[i].strip(), colors[i]) for i in ordered])


def borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return `(H, W)` bool, true on the upper and left pixels of each label boundary."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge


# --------------------------------------------------------------------------------------
# Masks


def tint(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], color: tuple[int, int, int], share: float
) -> None:
    """Blend a color into an image (H, W, 3) in place under a mask (H, W), with a solid outline."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    paint = np.array(color, dtype=np.float32)
    image[mask] = (image[mask] * (1 - share) + paint * share).astype(np.uint8)
    image[mask & ~inside] = color


def draw_masks(image: NDArray[np.uint8], rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Draw masks over an image, largest first, so that small ones stay visible."""
    canvas = image.copy()
    order = sorted(
        (masks.decode_row(row, image.shape[:2]) for row in rows), key=lambda m: -int(m.sum())
    )
    for mask, color in zip(order, palette(order)):
        if mask.any():
            tint(canvas, mask, color, 0.35)
    return Image.fromarray(canvas)


# --------------------------------------------------------------------------------------
# Legend


def _font(width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(_MIN_FONT, min(_MAX_FONT, round(width / 32))))


def _fitted(text: str, room: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a text with an ellipsis if it is wider than `room` pixels."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Color]]) -> Image.Image:
    """Put an image above rows of color chips with their names."""
    width = max(picture.width, 160)
    font = _font(width)
    line = round(font.getbbox("Ag")[3] * 1.5)
    chip, margin = round(line * 0.62), round(line * 0.5)
    gap = round(line * 0.35)
    rows: list[list[tuple[str, Color, float]]] = [[]]
    right = float(margin)
    for name, color in entries:
        label = _fitted(name, width - 2 * margin - chip - gap, font)
        needed = chip + gap + font.getlength(label)
        if rows[-1] and right + needed > width - margin:
            rows.append([])
            right = float(margin)
        rows[-1].append((label, color, right))
        right += needed + 2 * gap
    height = picture.height + margin + line * len(rows) + margin // 2
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for row, items in enumerate(rows):
        middle = picture.height + margin + line * row + line / 2 - margin / 4
        for label, color, left in items:
            box = (left, middle - chip / 2, left + chip, middle + chip / 2)
            draw.rounded_rectangle(box, radius=chip / 4, fill=color, outline=_INK)
            draw.text((left + chip + gap, middle), label, fill=_INK, font=font, anchor="lm")
    return sheet


# --------------------------------------------------------------------------------------
# Masks in a page


Step = tuple[int, int]
"""Down, right: a corner between pixels, or the step from one to the next."""


def outline(mask_hw: NDArray[np.bool_]) -> str:
    """Trace the borders of a mask as SVG path data along the pixels' edges.

    Args:
        mask_hw: bool (H, W).

    Returns:
        Closed loops, `M3 4h5v2h-5z...`, in pixels; holes run in the opposite direction, so that the
        non-zero and the even-odd rule fill the same area. Empty for an empty mask.
    """
    leaving = _edges(mask_hw)
    loops = []
    while leaving:
        start = next(iter(leaving))
        here, steps = start, [_take(leaving, start)]
        while (here := (here[0] + steps[-1][0], here[1] + steps[-1][1])) != start:
            steps.append(_take(leaving, here))
        loops.append(_loop(start, steps))
    return "".join(loops)


def _take(leaving: dict[Step, list[Step]], corner: Step) -> Step:
    """Remove and return the next step that leaves a corner.

    Where two pixels touch at a corner, both steps turn: borders never cross.
    """
    ways = leaving[corner]
    way = ways.pop(0)
    if not ways:
        del leaving[corner]
    return way


def _edges(mask_hw: NDArray[np.bool_]) -> dict[Step, list[Step]]:
    """Map each corner (y, x) to the unit steps (dy, dx) that leave it, the mask on their right."""
    padded = np.pad(mask_hw, 1)
    inside, above, left = padded[1:, 1:], padded[:-1, 1:], padded[1:, :-1]
    steps: dict[Step, list[Step]] = {}
    for border, shift, step in (
        (inside & ~above, (0, 0), (0, 1)),  # along the top edge, to the right
        (~inside & above, (0, 1), (0, -1)),  # along the bottom edge, to the left
        (inside & ~left, (1, 0), (-1, 0)),  # along the left edge, up
        (~inside & left, (0, 0), (1, 0)),  # along the right edge, down
    ):
        for y, x in np.argwhere(border).tolist():
            steps.setdefault((y + shift[0], x + shift[1]), []).append(step)
    return steps


def _loop(start: Step, steps: Sequence[Step]) -> str:
    """Return a closed loop as path data, with straight runs joined; the closing draws the last."""
    runs: list[list[int]] = []
    for dy, dx in steps:
        if runs and (runs[-1][0] == 0) == (dy == 0):
            runs[-1][0] += dy
            runs[-1][1] += dx
        else:
            runs.append([dy, dx])
    moves = [f"h{dx}" if dy == 0 else f"v{dy}" for dy, dx in runs[:-1]]
    return f"M{start[1]} {start[0]}{''.join(moves)}z"


def masked_scene(
    picture: str, size: tuple[int, int], mask_hw: NDArray[np.bool_], *, label: str, kind: str
) -> Markup:
    """Draw an image with everything but a mask dimmed and the mask outlined.

    Args:
        picture: SVG of the image, `<use .../>` or `<image .../>`.
        size: its width and height.
        mask_hw: the mask at that size.
        label: text for screen readers.
        kind: CSS class of the outline: `right`, `wrong` or `unjudged`.
    """
    width, height = size
    path = outline(mask_hw)
    return Markup(
        f'<svg class="scene {kind}" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(label)}">{picture}'
        f'<path class="shade" d="M0 0h{width}v{height}h-{width}z{path}"/>'
        f'<path class="halo" d="{path}"/><path class="edge" d="{path}"/></svg>'
    )


def placeholder(label: str, reason: str) -> Markup:
    """Return a placeholder for a missing image, with the reason as text."""
    return Markup(
        f'<div class="scene missing" role="img" aria-label="{escape(label)}: {escape(reason)}">'
        f"<p>No picture: {escape(reason)}</p></div>"
    )
