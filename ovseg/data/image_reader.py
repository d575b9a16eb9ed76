"""Reading of listed images by later stages.

The images were intact when they were listed, with a known sha256. One that is missing or has
changed gets a reason. If that is a whole shard, the folder is wrong rather than the images, and
the shard is not published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

from ovseg.data.images import MAX_PIXELS, MOST_PIXELS, ImageArray, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.files.archives import Span, resolved
from ovseg.files.locations import Location, reaching, reason
from ovseg.stages.stopwatch import waiting_for
from ovseg.stages.workers import WorkerPool, dying_workers


def image_folder(root: Location | None, *, setting: str) -> Location:
    """Check that the folder of the images exists, and return it.

    Args:
        root: a folder or URL.
        setting: the name of the setting that holds it, for messages.

    Raises:
        OvsegError: it does not exist, or cannot be reached.
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
        f"{root or 'no image folder'} is not a folder{why}: set {setting} to the images' folder"
    )


class ListedImages:
    """Reads images of the images table and counts the unreadable ones.

    Args:
        image_root: the folder or URL their paths are relative to.
        setting: the name of the setting that holds it, for messages.
        workers: processes that decode ahead; 0 decodes in place.

    Raises:
        OvsegError: the folder does not exist.
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
            OvsegError: after the last row, if there were several and none could be read.
        """
        # max_pixels was checked when they were listed
        decoded = decode_ahead(
            ((self.image_root / row["image_path"], row["image_sha256"]) for row in rows),
            workers=self.workers,
            max_pixels=MOST_PIXELS,
        )
        for row, image in zip(rows, waiting_for(decoded, "decode"), strict=True):
            self.read_images += 1
            if isinstance(image, ImageError):
                self.bad += 1
                self.first_bad = self.first_bad or f"{row['image_path']}: {image.reason}"
            yield row, image
        if self.bad == self.read_images > 1:
            raise OvsegError(
                f"{self.image_root}: none of the {self.bad} images can be read ({self.first_bad});"
                f" set {self.setting} to the folder the images were listed from"
            )

    def stats(self) -> dict[str, Any]:
        """Return `n`, `bad` and `first_bad`, for the check of `max_bad_fraction`."""
        return {"n": self.read_images, "bad": self.bad, "first_bad": self.first_bad}


AHEAD = 4  # images per worker that may wait for the reader
AHEAD_PIXELS = 2**28
"""Pixels that may wait for the reader (0.8 GB), estimated from the images before them."""
Request = tuple[Location | Span, str | None]
"""Location of an image and the sha256 its bytes must have (None: any)."""


def _try_read(request: Request, max_pixels: int) -> ImageArray | ImageError:
    path, sha256 = request
    try:
        return read_image(path, max_pixels=max_pixels, sha256=sha256)
    except ImageError as error:
        return ImageError(error.reason)  # without the traceback, which cannot be pickled


def _for_worker(request: Request) -> Request:
    """Replace a tar member by its span, which only this process looks up."""
    path, sha256 = request
    try:
        return (path if isinstance(path, Span) else resolved(path)), sha256
    except (OSError, ValueError):
        return request  # the worker finds out why


def decode_ahead(
    requests: Iterable[Request],
    *,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ImageArray | ImageError]:
    """Decode images in order, a few ahead of the reader.

    Up to `AHEAD` images per worker wait for the reader; fewer if they are large, `AHEAD_PIXELS` in
    total, but at least one per worker.

    Args:
        requests: (path, sha256 or None) of each image.
        workers: processes that decode; 0 decodes in this one, one image at a time.
        max_pixels: larger images are rejected unread.

    Yields:
        `(H, W, 3)` uint8 RGB, or the `ImageError` of an unusable image, in order.

    Raises:
        OvsegError: a worker process died.
    """
    if workers == 0:
        for request in requests:
            yield _try_read(request, max_pixels)
        return
    waiting: deque[Future[ImageArray | ImageError]] = deque()
    source = iter(requests)
    pool = WorkerPool(workers, preload=[__name__])
    largest = 1

    def submit(most: int) -> None:
        for request in islice(source, max(0, most - len(waiting))):
            waiting.append(pool.submit(_try_read, _for_worker(request), max_pixels))

    try:
        with dying_workers("decodes images", setting="decode_workers to 0"):
            submit(workers)
            while waiting:
                image = waiting.popleft().result()
                if not isinstance(image, ImageError):
                    largest = max(largest, image.shape[0] * image.shape[1])
                submit(min(AHEAD * workers, max(workers, AHEAD_PIXELS // largest)))
                yield image
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
