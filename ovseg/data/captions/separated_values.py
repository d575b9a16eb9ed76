"""Rows of CSV and TSV as people publish them, with quotation marks that mean something or nothing.

Programs that write tables put quotation marks around a field that holds the separator, a line break
or a mark, and double those within. People who publish captions separated by tabs mostly write the
text as it is: a caption that begins with a mark then opens a quotation that ends rows later, and
whatever stands between would be one caption. So a row ends with its line wherever the following
lines are rows themselves, and a mark that is never closed costs its own row at most.
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
"""Of a row; a quotation that is open for longer is taken for one that is never closed."""
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
    """Two fields of each row.

    Args:
        path: UTF-8; the first line names the columns.
        left_out: gets `bad_row` for what has more or fewer fields than the first line, or an open
            quotation. With tabs such a field is read as it stands.
        choose: of the names of the columns the two to read, that of file names first.
        delimiter: a comma or `TAB`.

    Raises:
        OvsegError: if it is empty.
    """
    csv.field_size_limit(MAX_LINE)
    lines = _Lines(_decoded_lines(text_lines(path, left_out)), delimiter)
    header = lines.row()
    if header is None:
        raise OvsegError(f"{path} is empty: its first line names the columns")
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
    """Lines, some of them looked at before they are read.

    Args:
        lines: with their ends.
        delimiter: of fields.
    """

    def __init__(self, lines: Iterator[str], delimiter: str) -> None:
        self.lines, self.delimiter = lines, delimiter
        self.ahead: deque[str] = deque()
        self.width: int | None = None
        self.place_of_name = 0

    def _line(self) -> str | None:
        return self.ahead.popleft() if self.ahead else next(self.lines, None)

    def row(self) -> list[str] | None:
        """The fields of the next row; none of one that is not a row; None at the end."""
        while (line := self._line()) is not None:
            if line.strip("\r\n"):
                return self._split(line) if '"' not in line else self._quoted(line)
        return None

    def _split(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self.delimiter)

    def _quoted(self, first: str) -> list[str]:
        taken = [first]

        def lines() -> Iterator[str]:
            yield first
            size = len(first)
            while (
                len(taken) < MAX_LINES and size <= MAX_LINE and (line := self._line()) is not None
            ):
                taken.append(line)
                size += len(line)
                yield line

        try:
            fields = next(csv.reader(lines(), delimiter=self.delimiter, strict=True))
            if not self._swallows(taken):
                return fields
        except (csv.Error, StopIteration):
            pass
        self.ahead.extendleft(reversed(taken[1:]))
        if self.width is None or self.delimiter == TAB:
            return [_unquoted(field) for field in self._split(first)]
        return []

    def _swallows(self, taken: Sequence[str]) -> bool:
        """Whether a row of several lines holds others: its first line is whole, as is a later one.

        Captions have commas more often than tabs: between commas a row also needs a file's name.
        """
        if self.width is None or len(taken) == 1 or len(self._split(taken[0])) < self.width:
            return False
        for line in taken[1:]:
            fields = self._split(line)
            if self.delimiter == TAB and len(fields) == self.width:
                return True
            if len(fields) >= self.width and _FILE.fullmatch(fields[self.place_of_name]):
                return True
        return False


def _unquoted(field: str) -> str:
    """A field without marks that stand around the whole of it and are doubled within."""
    within = field[1:-1].replace('""', "")
    if len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in within:
        return field[1:-1].replace('""', '"')
    return field
