"""Digests of JSON values, files, folders and code: what results are named after and checked by.

What a stage computes with is found, not listed: from its module and the modules of the registry
entries that its configuration names, every import is followed (`closure`). Left out is what carries
results and makes none (`INFRASTRUCTURE`), and what is only imported to annotate types.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ovseg.errors import OvsegError


def digest_json(value: object) -> str:
    """The sha256 (64 hex digits) of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 (64 hex digits) of a file, or of a folder's files by relative name and content."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest_json([[p.relative_to(path).as_posix(), file_sha256(p)] for p in files])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """`file_sha256` of a file, hashed once a process for as long as its size and time stay."""
    stat = path.stat()
    return _hashed(path.resolve(), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    # size and time are part of the key only: an edited file is read again
    return file_sha256(path)


INFRASTRUCTURE = ("ovseg.files", "ovseg.config", "ovseg.stages", "ovseg.errors")
"""Rooms that carry results and settings: where bytes lie is no part of what they are, values of
settings are in the digest, and a changed table raises its stage's `schema_version`."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def syntax_digest(source: str) -> str:
    """sha256 of a source text's syntax tree without docstrings.

    Args:
        source: Python source.

    Returns:
        64 hex digits; equal for sources that differ in comments, docstrings or layout alone, and
        equal in every version of Python from 3.11.
    """
    return hashlib.sha256(repr(_plain(ast.parse(source))).encode()).hexdigest()


def _plain(node: object) -> object:
    """A syntax tree as tuples, without docstrings and what differs between versions of Python.

    Newer versions have more fields, which are empty in older code; `ctx` follows from the place.
    """
    if isinstance(node, list):
        return [_plain(child) for child in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = fields["body"][1:] or [ast.Pass()]
    plain = ((name, _plain(fields[name])) for name in sorted(fields) if name != "ctx")
    return type(node).__name__, [pair for pair in plain if pair[1] not in (None, [])]


def _source(module: str) -> Path | None:
    """Where the source of a module is; None where there is no such module."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded is not None:
        return Path(loaded)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # below a module that is no package; `__main__` of a console
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


@functools.cache
def module_digest(module: str) -> str:
    """The digest (64 hex digits) of one module, without those it imports.

    Raises:
        OvsegError: if it has no source, as what is typed into a console.
    """
    path = _source(module)
    if path is None or not path.is_file():
        raise OvsegError(
            f"{module}: the source of this module is not in a file, and a stage's digest covers its"
            " code: write the stage into a module of its own"
        )
    if path.suffix == ".py":
        return syntax_digest(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """The modules that one imports, wherever in it, from its own top-level package or `ovseg`."""
    path = _source(module)
    if path is None or path.suffix != ".py":
        return frozenset()
    own = {module.partition(".")[0], "ovseg"}
    names = set()
    for node in _runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.partition(".")[0] in own}
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(node, module, path)
            if home.partition(".")[0] in own:
                names |= {_imported_module(home, alias.name) for alias in node.names}
    return frozenset(names)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from _runtime_nodes(other)
        else:
            yield node
            yield from _runtime_nodes(node)


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The module that an import is from, also where it is written with dots."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _imported_module(home: str, name: str) -> str:
    """`from ovseg.data import masks` imports a module, `from ovseg.data.masks import area` too."""
    path = _source(home)
    is_package = path is not None and path.name == "__init__.py"
    below = f"{home}.{name}"
    return below if is_package and _source(below) is not None else home


def is_infrastructure(module: str) -> bool:
    """Whether a module is in a room that makes no results."""
    return any(module == room or module.startswith(f"{room}.") for room in INFRASTRUCTURE)


def closure(modules: Iterable[str]) -> frozenset[str]:
    """The modules that some compute with: they themselves, and what they import, transitively.

    Args:
        modules: dotted names.

    Returns:
        Dotted names, without `INFRASTRUCTURE`, packages (whose `__init__` holds no code), and what
        is neither of `ovseg` nor of the importing module's own package.
    """
    found: set[str] = set()
    left = list(modules)
    while left:
        module = left.pop()
        path = _source(module)
        if module in found or is_infrastructure(module):
            continue
        if path is not None and path.name == "__init__.py":
            continue
        found.add(module)
        left += _imports(module)
    return frozenset(found)


def code_digest(modules: Iterable[str]) -> str:
    """The digest (16 hex digits) of some modules and of all they compute with.

    Args:
        modules: dotted names; see `closure`.

    Raises:
        OvsegError: see `module_digest`.
    """
    parts = [f"{module}:{module_digest(module)}" for module in sorted(closure(modules))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
