"""Stop nouns: words the tagger correctly calls nouns, but that name nothing a mask could cover.

The list is data (`stop_nouns.tsv`: noun, group, reason). Three groups are special. `keep` is the
opposite: a compound that does name something although its head is a stop noun ("parking lot").
`medium` holds words that mean the image itself if the caption goes on to say what it shows ("a
painting of a boat"), and a thing otherwise ("a painting on the wall"). `not_a_noun` holds words
that only the tagger calls nouns; they cannot be part of a compound either.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ovseg.errors import OvsegError

STOP_NOUNS = Path(__file__).with_name("stop_nouns.tsv")
EXCEPTION = "keep"
MEDIUM = "medium"
PICTURE = "picture"
SHOWING = frozenset({"of", "that", "which", "showing", "depicting", "shows", "depicts"})
"""Words after a medium that introduce what it shows."""
# Other parts of speech that small taggers mistake for nouns in captions ("grassy", "graze").
NOT_A_NOUN = "not_a_noun"
COLUMNS = ["noun", "group", "reason"]


@dataclass(frozen=True)
class StopNouns:
    """Groups by lemma, exempt compounds, and nouns that are stop nouns only before `SHOWING`."""

    groups: Mapping[str, str] = field(default_factory=dict)
    exceptions: frozenset[str] = frozenset()
    media: frozenset[str] = frozenset()

    @classmethod
    def none(cls) -> "StopNouns":
        """Return the empty list: nothing is a stop noun."""
        return cls()

    @classmethod
    @lru_cache(maxsize=8)
    def load(cls, path: Path = STOP_NOUNS) -> "StopNouns":
        """Read a list.

        Raises:
            OvsegError: if the file cannot be read, has other columns, or lists a noun twice.
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
            groups={n: group for n, group in groups.items() if group not in (EXCEPTION, MEDIUM)},
            exceptions=frozenset(noun for noun, group in groups.items() if group == EXCEPTION),
            media=frozenset(noun for noun, group in groups.items() if group == MEDIUM),
        )

    def group(self, *lemmas: str, after: str | None = None) -> str | None:
        """Return the group of the first of these lemmas that is a stop noun.

        Args:
            lemmas: the noun's lemma; for a compound, its own and its head's.
            after: the word that follows in the caption, in lower case.
        """
        group = next((self.groups[lemma] for lemma in lemmas if lemma in self.groups), None)
        if group is None and after in SHOWING and not self.media.isdisjoint(lemmas):
            return PICTURE
        return group

    def is_exception(self, compound: str) -> bool:
        """Whether a compound stays although its head is a stop noun."""
        return compound in self.exceptions
