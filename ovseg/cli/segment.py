"""Segment one image by class names and write an overlay.

ovseg segment photo.jpg --classes "moon, tree, sea" --out overlay.png
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ovseg.config.segmenting import OTHERS, segmenting
from ovseg.data.images import REASONS, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.files.access import check_file_target
from ovseg.files.publish import discard, publish, temporary_name
from ovseg.files.terminal import Terminal
from ovseg.report.painting import overlay, palette

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def parse_classes(classes: str | Sequence[str]) -> list[str]:
    """Return the distinct class names of a comma-separated string or of a list.

    Raises:
        OvsegError: if there is none.
    """
    given = classes.split(",") if isinstance(classes, str) else classes
    names = list(dict.fromkeys(name.strip() for name in given if name.strip()))
    if not names:
        raise OvsegError('--classes names nothing: give names such as "moon, tree, sea"')
    return names


def segment_command(
    image: Path,
    *,
    classes: str | Sequence[str],
    out: Path,
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, float]:
    """Segment an image file, write the overlay, print each class's share of the pixels.

    With a single class, "others" is added for everything else; it is not drawn.

    Args:
        image: the file.
        classes: names, or a string of comma-separated names.
        out: overlay to write: PNG, JPEG or WebP.
        settings: of `benchmarks`, by dotted name, see `ovseg.config.segmenting.segmenting`.
        console: where to print.

    Returns:
        Share of the image's pixels of each drawn class, 0..1, in the given order.

    Raises:
        OvsegError: if the image does not exist, there is no class, the output cannot be written, or
            a model is unknown.
    """
    config = segmenting(settings or {})
    names = parse_classes(classes)
    if out.suffix.lower() not in PICTURE_SUFFIXES:
        raise OvsegError(f"--out {out}: end the name in {', '.join(PICTURE_SUFFIXES)}")
    check_file_target(out, inputs=[image])
    try:
        pixels = read_image(image)
    except ImageError as error:
        raise OvsegError(f"{image}: {REASONS[error.reason]}; name another image") from None
    # after the cheap checks: these imports take seconds
    from ovseg.evaluation.splits import HEADLINE, benchmark_splits
    from ovseg.models.build import load_segmentor

    class_names = names if len(names) > 1 else [*names, OTHERS]
    seen = benchmark_splits(config, class_names).get(HEADLINE, ())
    segmentor = load_segmentor(config, class_names, seen=seen)
    labels = segmentor.segment(pixels).labels
    hidden = [len(names)] if len(names) == 1 else []
    colors = palette(segmentor.class_names)
    picture = overlay(pixels, labels, segmentor.class_names, hidden=hidden, colors=colors)
    temporary = temporary_name(out)
    try:
        picture.save(temporary, format=Image.registered_extensions()[out.suffix.lower()])
        publish(temporary, out)
    except (OSError, ValueError) as error:  # a side too long for WebP, a full disk
        reason = getattr(error, "strerror", None) or error
        raise OvsegError(f"--out {out} cannot be written: {reason}") from error
    finally:
        discard(temporary)
    shares = {name: float(np.mean(labels == index)) for index, name in enumerate(names)}
    table = Table("class", "pixels", box=None, pad_edge=False)
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        r, g, b = colors[names.index(name)]
        chip = Text("■ ", style=f"rgb({r},{g},{b})")
        table.add_row(chip + Text(name, style="default"), f"{100 * share:.1f} %")
    console = console or Terminal()
    console.print(table)
    console.print(Text(f"overlay: {out}"), soft_wrap=True)
    return shares
