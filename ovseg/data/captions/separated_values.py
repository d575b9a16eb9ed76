"""Rows of CSV and TSV files, whether or not quotation marks are escaped correctly.

Programs quote a field that holds the separator, a line break or a quotation mark, and double the
marks inside. People who publish tab-separated captions mostly write the text as it is: a caption
that begins with a mark would then open a quotation that ends rows later and swallow the rows
between. A row therefore ends with its line if the following lines are rows themselves, and an
unclosed mark costs at most its own row.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from ovseg.data.captions.captioned_image import decoded
from ovseg.data.captions.files import MAX_LINE, text_lines
from ovseg.errors import OvsegError
from ovseg.files.locations import Location

MAX_LINES = 100
"""Most lines of a row; a quotation open for longer counts as never closed."""
TAB = "\t"
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_FILE = re.compile(r'\s*"?[^",]*\.[A-Za-z]{3,5}"?\s*')


def separated_rows(
    path: Location,
    left_out: Counter[str],
    choose: Callable[[Sequence[str]], tuple[str, str]],
    *,
    delimiter: str,
) -> Iterator[tuple[str, str]]:
    """Yield two fields of each row.

    Args:
        path: a UTF-8 file whose first line names the columns.
        left_out: counts `bad_row` for rows with more or fewer fields than the first line, or with
            an unclosed quotation. With tabs, such a field is read literally.
        choose: picks the two columns to read by name, that of file names first.
        delimiter: a comma or `TAB`.

    Raises:
        OvsegError: the file is empty.
    """
    csv.field_size_limit(MAX_LINE)
    lines = _Lines(_decoded_lines(text_lines(path, left_out)), delimiter)
    header = lines.row()
    if header is None:
        raise OvsegError(f"{path} is empty: its first line must name the columns")
    names = choose(header)
    places = [header.index(name) for name in names]
    lines.width, lines.place_of_name = len(header), places[0]
    while (fields := lines.row()) is not None:
        if len(fields) == len(header):
            yield fields[places[0]], fields[places[1]]
        else:
            left_out["bad_row"] += 1


def _decoded_lines(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        text = decoded(line)
        if "\r" in text.rstrip("\r\n"):
            yield from _LINE.findall(text)
        else:
            yield text


class _Lines:
    """Splits lines into rows, with lookahead.

    Args:
        lines: lines with their line ends.
        delimiter: separator of fields.
    """

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self.lines, self.delimiter = lines, delimiter
        self.ahead: deque[str] = deque()
        self.width: int | None = None
        self.place_of_name = 0

    def _line(self) -> str | None:
        return self.ahead.popleft() if self.ahead else next(self.lines, None)

    def row(self) -> list[str] | None:
        """Return the fields of the next row, an empty list for an invalid row, None at the end."""
        while (line := self._line()) is not None:
            if line.strip("\r\n"):
                return self._split(line) if '"' not in line else self._quoted(line)
        return None

    def _split(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self.delimiter)

    def _quoted(self, first: str) -> list[str]:
        consumed = [first]

        def lines() -> Iterator[str]:
            yield first
            size = len(first)
            while (
                len(consumed) < MAX_LINES
                and size <= MAX_LINE
                and (line := self._line()) is not None
            ):
                consumed.append(line)
                size += len(line)
                yield line

        try:
            fields = next(csv.reader(lines(), delimiter=self.delimiter, strict=True))
            if not self._swallows(consumed):
                return fields
        except (csv.Error, StopIteration):
            pass
        self.ahead.extendleft(reversed(consumed[1:]))
        if self.width is None or self.delimiter == TAB:
            return [_unquoted(field) for field in self._split(first)]
        return []

    def _swallows(self, lines: Sequence[str]) -> bool:
        """Whether a row of several lines contains others: its first and a later line are complete.

        Commas are more common in captions than tabs, so a comma-separated row also needs a file
        name.
        """
        if self.width is None or len(lines) == 1 or len(self._split(lines[0])) < self.width:
            return False
        for line in lines[1:]:
            fields = self._split(line)
            if self.delimiter == TAB and len(fields) == self.width:
                return True
            if len(fields) >= self.width and _FILE.fullmatch(fields[self.place_of_name]):
                return True
        return False


def _unquoted(field: str) -> str:
    """Remove quotation marks around a whole field, and the doubling of those inside."""
    within = field[1:-1].replace('""', "")
    if len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in within:
        return field[1:-1].replace('""', '"')
    return field
