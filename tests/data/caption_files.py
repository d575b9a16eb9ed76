"""Two images with three captions, in every format."""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ovseg.data.captions.captioned_image import CaptionedImage


def stable_id(*parts: object) -> int:
    """63 bits of the sha256 of the canonical JSON of what an id names."""
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) // 2


def without_ids(name: str, *texts: str) -> CaptionedImage:
    """What is read of an image with some captions from a source without ids."""
    captions = [
        (stable_id(name, text, texts[:place].count(text)), text) for place, text in enumerate(texts)
    ]
    return CaptionedImage(stable_id(name), name, tuple(sorted(captions)))


def by_id(*images: CaptionedImage) -> tuple[CaptionedImage, ...]:
    return tuple(sorted(images, key=lambda image: image.image_id))


TWO = by_id(without_ids("a.jpg", "a dog, wet", 'a "big" dog'), without_ids("sub/b.jpg", "כלב 🐕"))
ROWS = [("a.jpg", "a dog, wet"), ("sub/b.jpg", "כלב 🐕"), ("a.jpg", 'a "big" dog')]


def jpeg(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in dict(members).items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_jsonl(path: Path) -> None:
    lines = [json.dumps({"Image": name, "id": 1, "text": text}) for name, text in ROWS]
    path.write_text("\n".join(lines) + "\n\n")


def write_csv(path: Path, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("filepath", "title"), *ROWS])


def write_parquet(target: Path, **columns: object) -> None:
    pq.write_table(pa.table(columns), target)


def write_rows_as_parquet(path: Path) -> None:
    names, texts = zip(*ROWS)
    write_parquet(path, image=pa.array(names).dictionary_encode(), caption=list(texts))


def write_flickr(path: Path) -> None:
    path.write_text("".join(f"{name}#{n}\t{text}\n" for n, (name, text) in enumerate(ROWS)))


WRITERS: dict[str, Callable[[Path], None]] = {
    "c.jsonl": write_jsonl,
    "c.csv": write_csv,
    "c.tsv": lambda path: write_csv(path, "\t"),
    "c.parquet": write_rows_as_parquet,
    "c.token": write_flickr,
}
