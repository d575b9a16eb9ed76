"""Images the images stage has listed, read again by a later stage.

They were whole when they were listed, and their sha256 says which bytes they were. One that is gone
or changed by now gets a reason; when a whole shard is, the folder is wrong rather than the images,
and nothing of it is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ovseg.data.decode_ahead import decode_ahead
from ovseg.data.images import MOST_PIXELS, ImageArray, ImageError
from ovseg.errors import OvsegError
from ovseg.locations import Location, reaching, reason


def image_folder(root: Location | None, *, setting: str) -> Location:
    """The folder of the images, found to be there.

    Args:
        root: a folder or URL.
        setting: the name of the setting that holds it, for messages.

    Raises:
        OvsegError: if there is none, or it cannot be reached.
    """
    why = ""
    if root is not None:
        try:
            with reaching(root):
                if root.is_dir():
                    return root
        except OSError as error:
            why = f" ({reason(error)})"
    raise OvsegError(
        f"{root or 'no image folder'} is not a folder{why}: set {setting} to where the images lie"
    )


class ListedImages:
    """Reads rows of the images table and counts what could not be read.

    Args:
        image_root: the folder or URL their paths are relative to.
        setting: the name of the setting that holds it, for messages.
        workers: processes that decode ahead; 0 decodes in place.

    Raises:
        OvsegError: if there is no such folder.
    """

    def __init__(self, image_root: Location | None, *, setting: str, workers: int = 0) -> None:
        self.image_root = image_folder(image_root, setting=setting)
        self.setting = setting
        self.workers = workers
        self.read_images = self.bad = 0
        self.first_bad: str | None = None

    def read(
        self, rows: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], ImageArray | ImageError]]:
        """Decode images in order.

        Args:
            rows: with `image_path` and `image_sha256`.

        Yields:
            (row, `(H, W, 3)` uint8 RGB or the reason it cannot be read).

        Raises:
            OvsegError: after the last one, if there were several and none could be read.
        """
        # max_pixels was checked when they were listed
        decoded = decode_ahead(
            ((self.image_root / row["image_path"], row["image_sha256"]) for row in rows),
            workers=self.workers,
            max_pixels=MOST_PIXELS,
        )
        for row, image in zip(rows, decoded, strict=True):
            self.read_images += 1
            if isinstance(image, ImageError):
                self.bad += 1
                self.first_bad = self.first_bad or f"{row['image_path']}: {image.reason}"
            yield row, image
        if self.bad == self.read_images > 1:
            raise OvsegError(
                f"{self.image_root}: none of {self.bad} images can be read ({self.first_bad});"
                f" set {self.setting} to the folder the images were listed from"
            )

    def stats(self) -> dict[str, Any]:
        """`n`, `bad` and `first_bad`, as `max_bad_fraction` is checked by."""
        return {"n": self.read_images, "bad": self.bad, "first_bad": self.first_bad}
