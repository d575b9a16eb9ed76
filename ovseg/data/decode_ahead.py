"""Images decoded by other processes, a few ahead of the reader.

The workers import this module and nothing heavier, so they start in a moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from ovseg.archives import Span, resolved
from ovseg.data.images import MAX_PIXELS, ImageArray, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.locations import Location
from ovseg.workers import WorkerPool

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
    ahead: int | None = None,
) -> Iterator[ImageArray | ImageError]:
    """Decode images in order, a few ahead of the reader.

    Args:
        wanted: (path, sha256 or None) of each image.
        workers: processes that decode; 0 decodes in this one, one image at a time.
        max_pixels: larger images are refused unread.
        ahead: how many images may wait for the reader, 4 a worker by default. Of large images fewer
            wait, `AHEAD_PIXELS` in all, but one a worker.

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
            ask(min(ahead or 4 * workers, max(workers, AHEAD_PIXELS // largest)))
            yield image
    except BrokenProcessPool as error:
        raise OvsegError(
            "a process that decodes images died, for want of memory or because the script that"
            ' runs this lacks `if __name__ == "__main__":`; set decode_workers to 0'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
