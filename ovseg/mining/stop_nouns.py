"""Stop nouns: words the tagger rightly calls nouns, but which name nothing a mask could cover.

The list is data (`stop_nouns.tsv`: noun, group, reason). Two groups are special. `keep` is the
opposite: a compound that does name something although its head is a stop noun ("parking lot").
`not_a_noun` holds what only the tagger calls a noun; such a word is no part of a compound either.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ovseg.errors import OvsegError

STOP_NOUNS = Path(__file__).with_name("stop_nouns.tsv")
EXCEPTION = "keep"
# Words of another class that small taggers take for nouns in captions ("grassy", "graze").
NOT_A_NOUN = "not_a_noun"
COLUMNS = ["noun", "group", "reason"]


@dataclass(frozen=True)
class StopNouns:
    """Groups by lemma, and the compounds that are exempt."""

    groups: Mapping[str, str] = field(default_factory=dict)
    exceptions: frozenset[str] = frozenset()

    @classmethod
    def none(cls) -> "StopNouns":
        """The empty list: nothing is a stop noun."""
        return cls()

    @classmethod
    @lru_cache(maxsize=8)
    def load(cls, path: Path = STOP_NOUNS) -> "StopNouns":
        """Read a list.

        Raises:
            OvsegError: the file cannot be read, has other columns, or lists a noun twice.
        """
        groups: dict[str, str] = {}
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                rows = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
                if next(rows, None) != COLUMNS:
                    raise OvsegError(f"{path}: the first line must be {', '.join(COLUMNS)} (tabs)")
                for number, row in enumerate(rows, start=2):
                    if len(row) != len(COLUMNS) or not all(row) or row[0] != row[0].lower():
                        raise OvsegError(
                            f"{path}:{number}: give a lower-case noun, its group and the reason"
                        )
                    if row[0] in groups:
                        raise OvsegError(f"{path}:{number}: {row[0]!r} is listed twice")
                    groups[row[0]] = row[1]
        except (OSError, UnicodeDecodeError) as error:
            raise OvsegError(f"cannot read the stop nouns {path}: {error}") from error
        return cls(
            groups={noun: group for noun, group in groups.items() if group != EXCEPTION},
            exceptions=frozenset(noun for noun, group in groups.items() if group == EXCEPTION),
        )

    def group(self, *lemmas: str) -> str | None:
        """The group of the first of these lemmas that is a stop noun."""
        return next((self.groups[lemma] for lemma in lemmas if lemma in self.groups), None)

    def is_exception(self, compound: str) -> bool:
        """Whether a compound stays although its head is a stop noun."""
        return compound in self.exceptions
