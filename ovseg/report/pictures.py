"""Pictures of a report: images as data URIs, masks as outlines over them, pairs as cards.

A mined image is embedded once and shown by every pair of it. A mask is an SVG path over the image:
what lies outside is dimmed, so that it is seen without any colour.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from ovseg.data import masks
from ovseg.data.images import REASONS, ImageArray, ImageError, read_image
from ovseg.files.locations import Location
from ovseg.report.mined_rows import Row

QUALITY = 72
Step = tuple[int, int]
"""Down, right: a corner between pixels, or the way from one to the next."""


def data_uri(picture: Image.Image) -> str:
    """A picture as a WebP data URI."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """The size (width, height) of an image whose longer side is brought down to `side`."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrunk(image: ImageArray, side: int) -> Image.Image:
    """An image (H, W, 3) whose longer side is at most `side` pixels."""
    size = fitted(image.shape[1], image.shape[0], side)
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def resize_mask(mask_hw: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) at another (width, height), nearest."""
    picture = Image.fromarray(mask_hw.astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST)).astype(np.bool_)


def outline(mask_hw: NDArray[np.bool_]) -> str:
    """The borders of a mask as SVG path data along the pixels' edges.

    Args:
        mask_hw: bool (H, W).

    Returns:
        Closed loops, `M3 4h5v2h-5z...`, in pixels; holes run the other way round, so that the
        non-zero and the even-odd rule fill the same. Empty for an empty mask.
    """
    leaving = _edges(mask_hw)
    loops = []
    while leaving:
        start = next(iter(leaving))
        here, steps = start, [_take(leaving, start, None)]
        while (here := (here[0] + steps[-1][0], here[1] + steps[-1][1])) != start:
            steps.append(_take(leaving, here, steps[-1]))
        loops.append(_loop(start, steps))
    return "".join(loops)


def _take(leaving: dict[Step, list[Step]], corner: Step, before: Step | None) -> Step:
    """The step that leaves a corner, taken out of what is left to walk."""
    ways = leaving[corner]
    # where two pixels touch at a corner the border turns: it never runs across another one
    way = next((way for way in ways if way != before), ways[0])
    ways.remove(way)
    if not ways:
        del leaving[corner]
    return way


def _edges(mask_hw: NDArray[np.bool_]) -> dict[Step, list[Step]]:
    """The unit steps (dy, dx) that leave each corner (y, x), the mask on their right."""
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
    """A closed loop as path data, straight runs joined; the last one is left to the closing."""
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
    """A picture with everything but a mask dimmed and the mask outlined.

    Args:
        picture: SVG of the picture itself, `<use .../>` or `<image .../>`.
        size: its width and height.
        mask_hw: the mask at that size.
        label: what a screen reader says.
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
    """What stands where a picture cannot: the reason, readable and printable."""
    return Markup(
        f'<div class="scene missing" role="img" aria-label="{escape(label)}: {escape(reason)}">'
        f"<p>No picture: {escape(reason)}</p></div>"
    )


@dataclass(frozen=True)
class Card:
    """One pair as the page shows it: the picture, its verdict, the caption that names the noun."""

    scene: Markup
    kind: str
    verdict: str
    measures: str
    caption: Markup
    image: str


class Gallery:
    """The images of the shown pairs, each read and embedded once.

    Args:
        root: folder or URL that image paths are relative to.
        side: longer side of an embedded image in pixels.
    """

    def __init__(self, root: Location | None, side: int) -> None:
        self.root, self.side = root or Path(), side
        self._known: dict[str, tuple[str, tuple[int, int]] | str] = {}
        self.pictures: list[tuple[str, int, int, str]] = []
        """id, width, height and data URI of each embedded image."""

    def _embed(self, path: str) -> tuple[str, tuple[int, int]] | str:
        """The id and size of an image, or why there is none."""
        if path not in self._known:
            try:
                picture = shrunk(read_image(self.root / path), self.side)
            except ImageError as error:
                self._known[path] = REASONS.get(error.reason, error.reason)
            else:
                name = f"image-{len(self.pictures)}"
                self.pictures.append((name, *picture.size, data_uri(picture)))
                self._known[path] = (name, picture.size)
        return self._known[path]

    def card(self, pair: Row) -> Card:
        """A row of `mined_rows.sample_pairs` as a card."""
        kind, verdict = judged(pair)
        label = f"{pair['noun']}: {verdict}, in {pair['image_path']}"
        found = self._embed(pair["image_path"])
        if isinstance(found, str):
            scene = placeholder(label, found)
        else:
            name, size = found
            mask = masks.decode_row(pair)
            use = f'<use href="#{name}"/>'
            scene = masked_scene(use, size, resize_mask(mask, size), label=label, kind=kind)
        parts = [f"similarity {pair['clip_similarity']:.2f}"]
        if pair["clip_margin"] is not None:
            parts.append(f"margin {pair['clip_margin']:.3f}")
        if pair["area_fraction"] is not None:
            parts.append(f"{100 * pair['area_fraction']:.1f} % of the image")
        if pair["gt_category"] is not None:
            parts.append(f"{100 * pair['gt_share']:.0f} % of it {pair['gt_category']}")
        return Card(
            scene=scene,
            kind=kind,
            verdict=verdict,
            measures=", ".join(parts),
            caption=quoted(pair["captions"] or [], pair["mentions"] or []),
            image=pair["image_path"],
        )


def judged(pair: Row) -> tuple[str, str]:
    """The CSS class and the words of what ground truth says of a pair."""
    if pair["correct"] is None:
        return "unjudged", "not judged"
    if pair["correct"]:
        return "right", "right"
    under = f"mostly {pair['gt_category']}" if pair["gt_category"] else "nothing labelled there"
    if pair["noun_category"] is None:
        return "wrong", f"names nothing drawn: {under}"
    return "wrong", f"wrong: {under}"


def quoted(captions: Sequence[Mapping[str, object]], mentions: Sequence[Row]) -> Markup:
    """The first caption that names the noun, escaped, the mention marked."""
    texts = {caption["caption_id"]: str(caption["text"]) for caption in captions}
    for mention in mentions:
        text = texts.get(mention["caption_id"])
        if text is None:
            continue
        start, end = mention["char_start"], mention["char_end"]
        marked = Markup("<mark>{}</mark>").format(text[start:end])
        return escape(text[:start]) + marked + escape(text[end:])
    return Markup("")


def thumbnail_uri(path: Path, *, width: int, quality: int = 70) -> str:
    """A picture as a `data:` URI of a WebP, scaled down where it is wider.

    Args:
        path: the picture.
        width: of the thumbnail at most, in pixels; the height follows.
        quality: of the WebP, 0 to 100.

    Returns:
        `data:image/webp;base64,...`.
    """
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
