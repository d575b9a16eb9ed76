"""Training data: the pairs a curation query selected, and the images they are in.

`read_pairs` joins the curated pair ids with the published pair table. `ImagePairs` groups its rows
by image, so that an image is decoded once for all of them; `ovseg.training.clip.regions` cuts them
out.
"""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ovseg.data.images import ImageError, read_bytes
from ovseg.errors import OvsegError
from ovseg.files.archives import Span, resolved
from ovseg.files.locations import Location
from ovseg.files.parquet_files import read_parquet
from ovseg.stages import schema
from ovseg.stages.manifest import Manifest

COLUMNS = ["pair_id", "image_path", "image_sha256", "mask_size", "mask_counts"]


def read_pairs(curated: Manifest, tables: Sequence[Manifest]) -> pa.Table:
    """Join a curated selection with the pair tables it was made from.

    Args:
        curated: a stage of `schema.CURATED` rows; its nouns are the training texts, so a query can
            train on the head of a compound, for example. A pair may be selected repeatedly.
        tables: published pair tables, each a folder of Parquet files of `schema.PAIRS`.

    Returns:
        `noun` and the `COLUMNS`, ordered by `(pair_id, noun)`: the row order of the query and the
        table does not influence training.

    Raises:
        OvsegError: if no pair is selected, or a selected pair is not in the table.
    """
    selection = curated.table(schema.CURATED.names).sort_by(
        [("pair_id", "ascending"), ("noun", "ascending")]
    )
    if not len(selection):
        raise OvsegError("the curation query selected no pairs: loosen it, or mine more images")
    pair_ids = pc.unique(selection["pair_id"])
    parts = []
    for path in (path for each in tables for path in sorted(each.payload().rglob("*.parquet"))):
        part = read_parquet(path, COLUMNS)
        parts.append(part.filter(pc.is_in(part["pair_id"], value_set=pair_ids)))
    if not parts:
        folders = ", ".join(str(each.payload()) for each in tables)
        raise OvsegError(f"{folders} has no Parquet file: run the stage again")
    pairs = pa.concat_tables(parts).combine_chunks()
    index = pc.index_in(selection["pair_id"], value_set=pairs["pair_id"].combine_chunks())
    if index.null_count:
        lost = selection["pair_id"].filter(pc.is_null(index))[0].as_py()
        raise OvsegError(
            f"{index.null_count} of the curated pairs are missing from the pair table, the first"
            f" {lost}: run the curation query on this table again"
        )
    return pairs.take(index).add_column(0, "noun", selection["noun"])


@dataclass(frozen=True, kw_only=True)
class ImageRows:
    """The pairs of one image; small and picklable, so that a worker process can cut them out.

    Attributes:
        place: the image's location.
        sha256: hash that its bytes must have; None accepts any.
        rows: their R numbers in the training set, ascending.
        sizes: height and width of each mask; None for a pair without a mask.
        counts: run-length code of each mask; None likewise.
    """

    place: Location | Span
    sha256: str | None
    rows: tuple[int, ...]
    sizes: tuple[list[int] | None, ...]
    counts: tuple[bytes | None, ...]


class ImagePairs:
    """The pairs of a training set by image.

    Args:
        pairs: rows from `read_pairs`.
        image_root: folder or URL the image paths are relative to.

    Attributes:
        paths: image path of each row, relative to the root.
    """

    def __init__(self, pairs: pa.Table, image_root: Location) -> None:
        self.image_root = image_root
        self.paths: list[str] = pairs["image_path"].to_pylist()
        self._pairs = pairs
        by_image: dict[str, list[int]] = defaultdict(list)
        for row, path in enumerate(self.paths):
            by_image[path].append(row)
        self._rows = [tuple(rows) for rows in by_image.values()]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self._rows)

    def path(self, row: int) -> Location:
        """Return the location of a row's image."""
        return self.image_root / self.paths[row]

    def of_image(self, image: int) -> tuple[int, ...]:
        """Return the rows of an image by its number, ascending."""
        return self._rows[image]

    def image(self, image: int) -> ImageRows:
        """Return what is needed to cut out the pairs of an image."""
        rows = self._rows[image]
        path = self.path(rows[0])
        return ImageRows(
            place=_span(path),
            sha256=self._pairs["image_sha256"][rows[0]].as_py(),
            rows=rows,
            sizes=tuple(self._pairs["mask_size"][row].as_py() for row in rows),
            counts=tuple(self._pairs["mask_counts"][row].as_py() for row in rows),
        )

    def digest(self) -> str:
        """Return 64 hex digits over the pixels and the masks of all rows, in order.

        Nouns, paths and the folder are left out: they do not change a region. An image without a
        recorded sha256 is read.
        """
        total, content = hashlib.sha256(), functools.cache(self._content)
        for path, (sha256, *mask) in zip(self.paths, self._masks(), strict=True):
            total.update(repr((sha256 or content(path), *mask)).encode())
        return total.hexdigest()

    def _masks(self) -> Iterator[tuple[str | None, list[int] | None, bytes | None]]:
        """Yield sha256 of the image, size and code of the mask of each row."""
        columns = self._pairs.select(["image_sha256", "mask_size", "mask_counts"])
        for batch in columns.to_batches(max_chunksize=2**14):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def _content(self, path: str) -> str:
        try:
            return hashlib.sha256(read_bytes(self.image_root / path)).hexdigest()
        except ImageError as error:
            return error.reason


def _span(path: Location) -> Location | Span:
    """Replace a member of a tar by its place there, which only this process looks up."""
    try:
        return resolved(path)
    except (OSError, ValueError):
        return path  # whoever reads it finds out why
