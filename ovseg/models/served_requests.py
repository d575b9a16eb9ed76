"""Requests to a served model: rows within limits, images from the request or one folder.

    limits = Limits.of_environment(os.environ)
    for question in limits.questions([{"image": text, "classes": "moon, tree"}]):
        image = limits.image(question.image)

Anyone who can reach the server can send anything, so nothing is read, decoded or computed before it
is known to be within the limits. Only paths below the folder of `OVSEG_SERVE_IMAGES` are valid;
others get exactly the same answer as missing files.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ovseg.config.segmenting import OTHERS
from ovseg.data import masks
from ovseg.data.images import REASONS, ImageError, decode, read_bytes
from ovseg.errors import OvsegError

if TYPE_CHECKING:
    from ovseg.data.images import ImageArray

FOLDER = "OVSEG_SERVE_IMAGES"
"""Environment variable: the folder below which a row's `image` may be a path."""
NAME_LENGTH = 200
"""Maximum number of characters of a class name."""
UNREADABLE = (
    "the image is neither an image file's bytes in base64 nor the path of a file below this"
    f" server's {FOLDER} folder"
)
"""The answer to every path that is not served, whether or not the file exists."""


class RequestError(OvsegError):
    """An invalid row or request.

    Attributes:
        status: the HTTP status: 400, or 413 if it exceeds a limit.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Question:
    """A valid row.

    Attributes:
        image: base64, or a path below the folder.
        classes: the requested names without duplicates.
    """

    image: str
    classes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names that compete for the pixels: a single name competes with `OTHERS`."""
        return [*self.classes, OTHERS] if len(self.classes) == 1 else list(self.classes)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a request; `OVSEG_SERVE_<NAME>` in the environment overrides a number.

    Attributes:
        rows: rows of a request.
        image_bytes: bytes of all images of a request, in base64, and of an image file.
        classes: different names in a request.
        pixels: pixels of an image.
        folder: folder below which a row's `image` may be a path; None allows no path.
    """

    rows: int = 64
    image_bytes: int = 32 * 2**20
    classes: int = 1_000
    pixels: int = 25_000_000
    folder: Path | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Limits:
        """Return the defaults with the environment's overrides.

        Raises:
            OvsegError: if a value is not a positive number, or the folder does not exist.
        """
        numbers: dict[str, int] = {}
        for field in fields(cls):
            variable = f"OVSEG_SERVE_{field.name.upper()}"
            if field.name == "folder" or not (text := environment.get(variable, "")):
                continue
            if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
                raise OvsegError(f"{variable}={text!r}: give a positive whole number")
            numbers[field.name] = int(text)
        folder = None
        if setting := environment.get(FOLDER):
            folder = Path(setting).expanduser().resolve()
            if not folder.is_dir():
                raise OvsegError(f"{FOLDER}={setting!r} is not a folder: name the images' folder")
        return cls(**numbers, folder=folder)

    def questions(self, rows: Sequence[Mapping[str, Any]]) -> list[Question | RequestError]:
        """Return the question of each row, or why it is invalid.

        Raises:
            RequestError: if the request as a whole exceeds a limit.
        """
        if len(rows) > self.rows:
            raise _beyond(f"{len(rows)} rows", self.rows, "rows")
        size = sum(len(row["image"]) for row in rows if isinstance(row.get("image"), str))
        if size > self.image_bytes:
            raise _beyond(f"images of {size} bytes in base64", self.image_bytes, "image_bytes")
        questions = [self._question(row) for row in rows]
        names = {name for each in questions if isinstance(each, Question) for name in each.classes}
        if len(names) > self.classes:
            raise _beyond(f"{len(names)} different classes", self.classes, "classes")
        return questions

    def _question(self, row: Mapping[str, Any]) -> Question | RequestError:
        image = row.get("image")
        if not isinstance(image, str):
            return RequestError("image is not text: send the file's bytes in base64")
        try:
            return Question(image=image, classes=self._classes(row.get("classes")))
        except RequestError as error:
            return error

    def _classes(self, classes: object) -> tuple[str, ...]:
        """Parse names from text with commas or from a list, as `ovseg segment` does."""
        names = classes.split(",") if isinstance(classes, str) else classes
        if isinstance(names, np.ndarray):
            names = names.tolist()
        if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
            raise RequestError("classes are neither a list of names nor names separated by commas")
        distinct = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        if not distinct:
            raise RequestError("no classes: give at least one name")
        if len(distinct) > self.classes:
            raise _beyond(f"{len(distinct)} classes", self.classes, "classes")
        if (longest := max(map(len, distinct))) > NAME_LENGTH:
            raise RequestError(
                f"a class name of {longest} characters: the maximum is {NAME_LENGTH}", status=413
            )
        return distinct

    def image(self, image: str) -> ImageArray:
        """Return the image `(H, W, 3)` uint8 of a row.

        Raises:
            RequestError: if it cannot be read, or exceeds a limit.
        """
        try:
            if not (content := self._content(image)):
                raise ImageError("zero_bytes")
            return decode(content, max_pixels=self.pixels)
        except ImageError as error:
            if error.reason == "too_large":
                raise _beyond("an image of more pixels", self.pixels, "pixels") from None
            raise RequestError(f"the image cannot be used: {REASONS[error.reason]}") from None

    def _content(self, image: str) -> bytes:
        if (path := self._path(image)) is not None:
            try:
                if path.stat().st_size > self.image_bytes:
                    raise _beyond("an image file of more bytes", self.image_bytes, "image_bytes")
                return read_bytes(path)
            except (ImageError, OSError):
                raise RequestError(UNREADABLE) from None
        try:
            return base64.b64decode("".join(image.split()), validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(UNREADABLE) from None

    def _path(self, image: str) -> Path | None:
        """Return the file below the folder that a text names, links resolved; None otherwise."""
        if self.folder is None or len(image) > 4096:
            return None
        try:
            path = (self.folder / image).resolve()
            served = path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # not a path, or a loop of links
            return None
        return path if served else None


def _beyond(what: str, limit: int, name: str) -> RequestError:
    return RequestError(
        f"{what}: this server accepts at most {limit} (OVSEG_SERVE_{name.upper()})", status=413
    )


def segments(labels: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the masks of the classes that occur, in their order.

    Args:
        labels: `(H, W)` class indices.
        classes: names; labels beyond them are left out.

    Returns:
        For each class its name, its share of the pixels and compressed COCO RLE counts.
    """
    answer = []
    for index in np.unique(labels):
        if 0 <= index < len(classes):
            mask = labels == index
            (counts,) = masks.encode(mask[None])
            answer.append(
                {
                    "class": classes[index],
                    "area_fraction": float(mask.mean()),
                    "counts": counts.decode("ascii"),
                }
            )
    return answer
