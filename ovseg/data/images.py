"""Images decoded safely: whatever a file holds, it becomes RGB pixels or an error with a reason.

Workers that decode ahead import this module and nothing heavier, so they start in a moment.
"""

from __future__ import annotations

import hashlib
import io
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ovseg.archives import Span, read_span, resolved
from ovseg.errors import OvsegError
from ovseg.locations import Location, reaching
from ovseg.workers import WorkerPool

ImageArray = NDArray[np.uint8]
MAX_PIXELS = 100_000_000
MAX_BYTES = 2**29
"""A larger file is not read into memory."""
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF"),
    "WEBP",
)
"""What is decoded, by Pillow's names. Others run programs (EPS) or are no photographs."""

REASONS = {
    "missing_file": "there is no such file",
    "unreadable_file": "it is there and cannot be read (a folder, no permission, no tar)",
    "zero_bytes": "the file is empty",
    "not_an_image": "the bytes are of no known image format",
    "truncated": "the file ends before the image does",
    "broken": "the file is damaged inside",
    "too_large": "more pixels than max_pixels, or more than 512 MiB",
    "changed": "the bytes are no longer those the images stage listed",
}
"""Every reason of an `ImageError`."""


class ImageError(Exception):
    """An image that cannot be used; `reason` is one of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_bytes(path: Location | Span) -> bytes:
    """The bytes of an image: of a file, of what is behind a URL, of a member of a tar.

    Args:
        path: where it lies; `00000.tar#name.jpg` is a member (`ovseg.archives`).

    Raises:
        ImageError: `missing_file`, `unreadable_file`, `zero_bytes` or `too_large`.
    """
    try:
        found = path if isinstance(path, Span) else resolved(path)
        content = _read_member(found) if isinstance(found, Span) else _read_file(found)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ImageError("missing_file") from None
    except OSError as error:
        raise ImageError("unreadable_file") from error
    if not content:
        raise ImageError("zero_bytes")
    return content


def _read_member(member: Span) -> bytes:
    if member.size > MAX_BYTES:
        raise ImageError("too_large")
    return read_span(member)


def _read_file(path: Location) -> bytes:
    if isinstance(path, Path):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device might never end
            raise ImageError("unreadable_file")
        if found.st_size > MAX_BYTES:
            raise ImageError("too_large")
        return path.read_bytes()
    with reaching(path), path.open("rb") as stream:
        content: bytes = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageError("too_large")
    return content


def decode(content: bytes, *, max_pixels: int = MAX_PIXELS) -> ImageArray:
    """Decode an image file's bytes.

    The EXIF orientation is applied; of several frames the first is taken; transparent pixels lie on
    white; 16-bit values are scaled to 8 bits.

    Args:
        content: the file.
        max_pixels: larger images are refused before their pixels are decoded.

    Returns:
        `(H, W, 3)` uint8 RGB, writable.

    Raises:
        ImageError: with one of `REASONS`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError("too_large")
            image.load()
            return np.array(_rgb(_upright(image)))
    except UnidentifiedImageError:
        raise ImageError("not_an_image") from None
    except Image.DecompressionBombError:
        raise ImageError("too_large") from None
    except OSError as error:
        # Pillow has no class for it; its decoders say so in words
        words = str(error).lower()
        raise ImageError("truncated" if "truncated" in words else "broken") from error
    except MemoryError:
        raise ImageError("too_large") from None
    except ImageError:
        raise
    except Exception as error:  # decoders fail in every way on damaged bytes
        raise ImageError("broken") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image  # damaged EXIF says nothing about the orientation; the pixels are fine


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        wide = image.mode != "I" or int(values.max()) > 255
        image = Image.fromarray(
            np.clip((values + 128) // 257 if wide else values, 0, 255).astype(np.uint8)
        )
    elif image.mode == "F":
        image = Image.fromarray(np.clip(np.nan_to_num(np.asarray(image)), 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, layered)
    return image.convert("RGB")


def read_image(
    path: Location | Span, *, max_pixels: int = MAX_PIXELS, sha256: str | None = None
) -> ImageArray:
    """Read and decode an image.

    Args:
        path: where it lies, as for `read_bytes`.
        max_pixels: larger images are refused unread.
        sha256: what the file's bytes must hash to (64 hex digits); None accepts any.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        ImageError: with one of `REASONS`.
    """
    content = read_bytes(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ImageError("changed")
    return decode(content, max_pixels=max_pixels)


# --------------------------------------------------------------------------------------
# Perceptual hash

_HASH_SIDE = 32


@cache
def _dct_rows() -> NDArray[np.float64]:
    """`(8, 32)`: the first eight basis vectors of the orthonormal DCT-II of length 32."""
    k, n = np.arange(8)[:, None], np.arange(_HASH_SIDE)[None]
    rows: NDArray[np.float64] = np.cos(np.pi * k * (2 * n + 1) / (2 * _HASH_SIDE)) * np.sqrt(
        2 / _HASH_SIDE
    )
    rows[0] /= np.sqrt(2)
    return rows


def _cells(pixels: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Average an axis into 32 cells; a shorter one is repeated."""
    edges = np.arange(_HASH_SIDE + 1) * pixels.shape[axis] // _HASH_SIDE
    counts = np.maximum(np.diff(edges), 1)
    sums = np.add.reduceat(pixels, edges[:-1], axis=axis)
    shape = [1] * pixels.ndim
    shape[axis] = _HASH_SIDE
    return np.asarray(sums / counts.reshape(shape))


def phash(image: ImageArray) -> int:
    """A 64-bit perceptual hash: images that look alike differ in few bits.

    The luma is averaged into 32 x 32 cells; each of the 8 x 8 lowest DCT coefficients gives a bit,
    row-major from the highest, set where it exceeds their median.

    Args:
        image: `(H, W, 3)` uint8 RGB.

    Returns:
        0 <= hash < 2**64.
    """
    luma = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    cells = _cells(_cells(luma.astype(np.float64), 0), 1)
    rows = _dct_rows()
    # rounding makes flat images, whose coefficients are pure rounding noise, hash alike
    low = np.round(rows @ cells @ rows.T, 6)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


# --------------------------------------------------------------------------------------
# Decoding ahead

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
        ahead: how many images may wait for the reader, which bounds memory; 4 a worker by default.

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
    try:
        for one in islice(source, ahead or 4 * workers):
            waiting.append(pool.submit(_try_read, _for_worker(one), max_pixels))
        while waiting:
            image = waiting.popleft().result()
            for one in islice(source, 1):
                waiting.append(pool.submit(_try_read, _for_worker(one), max_pixels))
            yield image
    except BrokenProcessPool as error:
        raise OvsegError(
            "a process that decodes images died, for want of memory or because the script that"
            ' runs this lacks `if __name__ == "__main__":`; set decode_workers to 0'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
