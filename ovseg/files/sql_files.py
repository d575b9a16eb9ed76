"""The analysts' SQL: the folder `sql/`, its files by kind and name, and their header comments."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ovseg
from ovseg.errors import OvsegError
from ovseg.files.access import local

Kind = Literal["views", "queries", "tests", "curation", "report"]
Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class SqlFile:
    """One select in a file.

    Attributes:
        name: the query, check or view: the file's stem without its ordering prefix.
        path: the file.
        text: its whole text.
    """

    name: str
    path: Path
    text: str

    @property
    def header(self) -> list[str]:
        """The comment the file opens with, line by line."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("--"):
                break
            lines.append(line.removeprefix("--").strip())
        return lines

    def listed(self, what: str) -> list[str]:
        """Return the names in the header line that begins with `what` and a colon."""
        for line in self.header:
            key, colon, names = line.partition(":")
            if colon and key == what:
                return [name.strip() for name in names.rstrip(".").split(",")]
        return []

    @property
    def stored(self) -> bool:
        """Whether the header says that the catalog stores the view's rows."""
        return any(line.startswith("Stored in the catalog") for line in self.header)

    @property
    def severity(self) -> Severity:
        """Whether a check that fails blocks what it is of (`error`, the default) or only warns.

        Raises:
            OvsegError: the header names another severity.
        """
        match self.listed("Severity"):
            case ["warn"]:
                return "warn"
            case ["error"] | []:
                return "error"
            case other:
                raise OvsegError(
                    f"{self.path}: Severity is error or warn, not {', '.join(other)!r:.80}"
                )

    @property
    def title(self) -> str:
        """The first sentence of the header, which says what the rows are."""
        return " ".join(self.header).partition(". ")[0].removesuffix(".")


def sql_folder() -> Path:
    """Return the folder `sql/` of the checkout that `ovseg` is installed from.

    Raises:
        OvsegError: the package was installed without its checkout.
    """
    folder = Path(ovseg.__file__).parent.parent / "sql"
    if not folder.is_dir():
        raise OvsegError(
            f"{folder} does not exist: the queries live in the checkout, install ovseg from it with"
            " pip install --editable"
        )
    return folder


def sql_files(kind: Kind) -> list[SqlFile]:
    """Return all files of a kind, sorted by file name (views build on earlier ones)."""
    return [
        SqlFile(name=_name(path), path=path, text=path.read_text(encoding="utf-8"))
        for path in sorted((sql_folder() / kind).glob("*.sql"))
    ]


def sql_file(kind: Kind, name: str) -> SqlFile:
    """Return the file of that name.

    Raises:
        OvsegError: no file has that name; the message lists those that exist.
    """
    files = {file.name: file for file in sql_files(kind)}
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(files)}"
        raise OvsegError(f"no {name!r} in {sql_folder() / kind}: {hint}")
    return files[name]


def curation_file(name_or_path: str) -> SqlFile:
    """Return the file of a curation, by its name in `sql/curation` or its path.

    Raises:
        OvsegError: the file does not exist, or cannot be read as text.
    """
    path = local(name_or_path)
    if path.suffix != ".sql":
        return sql_file("curation", name_or_path)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise OvsegError(f"{path} {what}: name a file, or a query in sql/curation")
    try:
        return SqlFile(name=path.stem, path=path, text=path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise OvsegError(f"{path} cannot be read ({reason}): name another curation") from error


def _name(path: Path) -> str:
    prefix, _, rest = path.stem.partition("_")
    return rest if prefix.isdigit() else path.stem
