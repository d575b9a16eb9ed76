"""Images the listing stage has listed, read again by a later stage.

They were whole when they were listed, and their sha256 says which bytes they were. One that is gone
or changed by now gets a reason; when a whole shard is, the folder is wrong rather than the images,
and nothing of it is published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from ovseg.data.images import MAX_PIXELS, MOST_PIXELS, ImageArray, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.files.archives import Span, resolved
from ovseg.files.locations import Location, reaching, reason
from ovseg.stages.workers import WorkerPool


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


AHEAD = 4  # images a worker that may wait
AHEAD_PIXELS = 2**28
"""That may wait for the reader (0.8 GB), as far as the images before them tell their size."""
Wanted = tuple[Location | Span, str | None]
"""Where an image lies and the sha256 its bytes must have (None: any)."""


def _try_read(wanted: Wanted, max_pixels: int) -> ImageArray | ImageError:
    path, sha256 = wanted
    try:
        return read_image(path, max_pixels=max_pixels, sha256=sha256)
    except ImageError as error:
        return ImageError(error.reason)  # without the traceback, which cannot be sent


def _for_worker(wanted: Wanted) -> Wanted:
    """With a member's place in its archive, which is looked up in this process alone."""
    path, sha256 = wanted
    try:
        return (path if isinstance(path, Span) else resolved(path)), sha256
    except (OSError, ValueError):
        return wanted  # the worker finds out why


def decode_ahead(
    wanted: Iterable[Wanted],
    *,
    workers: int = 0,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ImageArray | ImageError]:
    """Decode images in order, a few ahead of the reader.

    `AHEAD` images a worker may wait for the reader; of large ones fewer do, `AHEAD_PIXELS` in all,
    but one a worker.

    Args:
        wanted: (path, sha256 or None) of each image.
        workers: processes that decode; 0 decodes in this one, one image at a time.
        max_pixels: larger images are refused unread.

    Yields:
        `(H, W, 3)` uint8 RGB, or the `ImageError` of an image that cannot be used, in order.

    Raises:
        OvsegError: if a worker process dies.
    """
    if workers == 0:
        for one in wanted:
            yield _try_read(one, max_pixels)
        return
    waiting: deque[Future[ImageArray | ImageError]] = deque()
    source = iter(wanted)
    pool = WorkerPool(workers, preload=[__name__])
    largest = 1

    def ask(most: int) -> None:
        for one in islice(source, max(0, most - len(waiting))):
            waiting.append(pool.submit(_try_read, _for_worker(one), max_pixels))

    try:
        ask(workers)
        while waiting:
            image = waiting.popleft().result()
            if not isinstance(image, ImageError):
                largest = max(largest, image.shape[0] * image.shape[1])
            ask(min(AHEAD * workers, max(workers, AHEAD_PIXELS // largest)))
            yield image
    except BrokenProcessPool as error:
        raise OvsegError(
            "a process that decodes images died, for want of memory or because the script that"
            ' runs this lacks `if __name__ == "__main__":`; set decode_workers to 0'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
