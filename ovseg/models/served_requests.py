"""What a served model is asked: rows within limits, images from the request or one folder.

    limits = Limits.of_environment(os.environ)
    for question in limits.questions([{"image": text, "classes": "moon, tree"}]):
        image = limits.image(question.image)

Whoever can reach the server may send anything, so nothing is read, decoded or computed before it is
known to be within the limits. A path counts only below the folder of `OVSEG_SERVE_IMAGES`; what
lies elsewhere is answered exactly like what does not exist.
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
"""Characters of a class name at most."""
UNREADABLE = (
    "the image is neither an image file's bytes in base64 nor a path of a file below the folder"
    f" that this server was given as {FOLDER}"
)
"""The answer to every path that is not served, whether there is a file or not."""


class RequestError(OvsegError):
    """A row, or a whole request, that is not answered.

    Attributes:
        status: the HTTP status: 400, or 413 for what is beyond a limit.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Question:
    """A row that may be computed.

    Attributes:
        image: base64, or a path below the folder.
        classes: the names asked for, each once.
    """

    image: str
    classes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The names that compete for the pixels: a single one has `OTHERS` as its rival."""
        return [*self.classes, OTHERS] if len(self.classes) == 1 else list(self.classes)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request may ask for; `OVSEG_SERVE_<NAME>` in the environment replaces a number.

    Attributes:
        rows: of a request.
        image_bytes: of all images of a request, in base64 as they come, and of an image file.
        classes: different names in a request.
        pixels: of an image.
        folder: below it a row's `image` may be a path; None allows no path.
    """

    rows: int = 64
    image_bytes: int = 32 * 2**20
    classes: int = 1_000
    pixels: int = 25_000_000
    folder: Path | None = None

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Limits:
        """The defaults, with what the environment has instead.

        Raises:
            OvsegError: for what is not a positive number, or a folder that is not there.
        """
        numbers: dict[str, int] = {}
        for field in fields(cls):
            variable = f"OVSEG_SERVE_{field.name.upper()}"
            if field.name == "folder" or not (text := environment.get(variable, "")):
                continue
            if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
                raise OvsegError(f"{variable}={text!r}: give a whole number from 1 on")
            numbers[field.name] = int(text)
        folder = None
        if given := environment.get(FOLDER):
            folder = Path(given).expanduser().resolve()
            if not folder.is_dir():
                raise OvsegError(f"{FOLDER}={given!r} is not a folder: name the images' folder")
        return cls(**numbers, folder=folder)

    def questions(self, rows: Sequence[Mapping[str, Any]]) -> list[Question | RequestError]:
        """What each row asks, or why it is not answered.

        Raises:
            RequestError: the request as a whole is beyond a limit.
        """
        if len(rows) > self.rows:
            raise _beyond(f"{len(rows)} rows", self.rows, "rows")
        size = sum(len(row["image"]) for row in rows if isinstance(row.get("image"), str))
        if size > self.image_bytes:
            raise _beyond(f"images of {size} bytes in base64", self.image_bytes, "image_bytes")
        asked = [self._question(row) for row in rows]
        names = {name for each in asked if isinstance(each, Question) for name in each.classes}
        if len(names) > self.classes:
            raise _beyond(f"{len(names)} different classes", self.classes, "classes")
        return asked

    def _question(self, row: Mapping[str, Any]) -> Question | RequestError:
        image = row.get("image")
        if not isinstance(image, str):
            return RequestError("image is not a text: send the file's bytes in base64")
        try:
            return Question(image=image, classes=self._classes(row.get("classes")))
        except RequestError as error:
            return error

    def _classes(self, given: object) -> tuple[str, ...]:
        """Names of a text with commas, or of a list as they are; as `ovseg segment` takes them."""
        names = given.split(",") if isinstance(given, str) else given
        if isinstance(names, np.ndarray):
            names = names.tolist()
        if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
            raise RequestError("classes are neither a list of names nor a text of names and commas")
        found = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
        if not found:
            raise RequestError("no classes: give at least one name")
        if len(found) > self.classes:
            raise _beyond(f"{len(found)} classes", self.classes, "classes")
        if (longest := max(map(len, found))) > NAME_LENGTH:
            raise RequestError(
                f"a class name of {longest} characters: {NAME_LENGTH} are the most", status=413
            )
        return found

    def image(self, image: str) -> ImageArray:
        """The image `(H, W, 3)` uint8 of a row.

        Raises:
            RequestError: it cannot be read, or is beyond a limit.
        """
        try:
            if not (content := self._content(image)):
                raise ImageError("zero_bytes")
            return decode(content, max_pixels=self.pixels)
        except ImageError as error:
            if error.reason == "too_large":
                raise _beyond("an image of more pixels", self.pixels, "pixels") from None
            raise RequestError(f"the image is not used: {REASONS[error.reason]}") from None

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
        """The file that a text names below the folder, links resolved; None if it names none."""
        if self.folder is None or len(image) > 4096:
            return None
        try:
            path = (self.folder / image).resolve()
            served = path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # what is not a path; a loop of links
            return None
        return path if served else None


def _beyond(what: str, limit: int, name: str) -> RequestError:
    return RequestError(
        f"{what}: this server takes {limit} at most (OVSEG_SERVE_{name.upper()})", status=413
    )


def segments(labels: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The masks of an answer, of the classes that occur, in their order.

    Args:
        labels: `(H, W)` class indices.
        classes: names; what is labelled beyond them is left out.

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
