"""Mined pairs as the cards of a report: the mask in its image, the verdict, the caption.

A mined image is embedded once and shared by all its pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from ovseg.data import masks
from ovseg.data.images import REASONS, ImageError, read_image
from ovseg.files.locations import Location
from ovseg.report.embedded import data_uri, resize_mask, shrunk
from ovseg.report.mined_rows import Row
from ovseg.report.painting import masked_scene, placeholder


@dataclass(frozen=True)
class Card:
    """One pair on the page: the image, its verdict, the caption that names the noun."""

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
        """ID, width, height and data URI of each embedded image."""

    def _embed(self, path: str) -> tuple[str, tuple[int, int]] | str:
        """Return the ID and size of an image, or why there is none."""
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
        """Make a card of a row of `mined_rows.sample_pairs`."""
        kind, verdict = judged(pair)
        label = f"{pair['noun']}: {verdict}, in {pair['image_path']}"
        embedded = self._embed(pair["image_path"])
        if isinstance(embedded, str):
            scene = placeholder(label, embedded)
        else:
            name, size = embedded
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
    """Return the CSS class and the text of the ground truth's verdict on a pair."""
    if pair["correct"] is None:
        return "unjudged", "not judged"
    if pair["correct"]:
        return "right", "right"
    under = f"mostly {pair['gt_category']}" if pair["gt_category"] else "nothing labelled there"
    if pair["noun_category"] is None:
        return "wrong", f"names nothing drawn: {under}"
    return "wrong", f"wrong: {under}"


def quoted(captions: Sequence[Mapping[str, object]], mentions: Sequence[Row]) -> Markup:
    """Return the first caption that names the noun, escaped, with the mention marked."""
    texts = {caption["caption_id"]: str(caption["text"]) for caption in captions}
    for mention in mentions:
        text = texts.get(mention["caption_id"])
        if text is None:
            continue
        start, end = mention["char_start"], mention["char_end"]
        marked = Markup("<mark>{}</mark>").format(text[start:end])
        return escape(text[:start]) + marked + escape(text[end:])
    return Markup("")
