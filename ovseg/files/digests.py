"""Digests of JSON values, files, folders and code, which name and verify results.

The code that a stage runs is found, not listed: `closure` follows every import from the stage's
module and from the modules of the registry entries that its configuration names. It skips modules
that carry results but make none (`INFRASTRUCTURE`), and imports for type annotations only.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from ovseg.errors import OvsegError


def digest_json(value: object) -> str:
    """Return the sha256 (64 hex digits) of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 (64 hex digits) of a file, or of a folder's relative names and contents."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return digest_json([[p.relative_to(path).as_posix(), file_sha256(p)] for p in files])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """Return `file_sha256` of a file, cached per process until its size or time changes."""
    stat = path.stat()
    return _hashed(path.resolve(), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    # size and time: cache key, so that an edited file is read again
    return file_sha256(path)


INFRASTRUCTURE = ("ovseg.files", "ovseg.config", "ovseg.stages", "ovseg.errors")
"""Packages that carry results and settings: where bytes lie does not change them, values of
settings are in the digest, and a changed table raises its stage's `schema_version`."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def syntax_digest(source: str) -> str:
    """Return the sha256 of a source text's syntax tree without docstrings.

    Args:
        source: Python source.

    Returns:
        64 hex digits; equal for sources that differ only in comments, docstrings or layout, and
        the same in every version of Python from 3.11.
    """
    return hashlib.sha256(repr(_plain(_parsed(source))).encode()).hexdigest()


_parsing = threading.Lock()


def _parsed(source: str) -> ast.Module:
    """Parse a module; two threads that do so at once raise a SystemError in Python 3.11."""
    with _parsing:
        return ast.parse(source)


def _plain(node: object) -> object:
    """Convert a syntax tree to tuples, without docstrings and Python version differences.

    Newer versions add fields, which are empty in older code; `ctx` follows from the position.
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
    """Return the path of a module's source; None if there is no such module."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    if loaded is not None:
        return Path(loaded)
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # the parent is not a package; `__main__` of a console
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


@functools.cache
def module_digest(module: str) -> str:
    """Return the digest (64 hex digits) of one module, without those it imports.

    Raises:
        OvsegError: it has no source file, such as code typed into a console.
    """
    path = _source(module)
    if path is None or not path.is_file():
        raise OvsegError(
            f"{module}: the source of this module is not in a file, but a stage's digest covers its"
            " code: put the stage in a module of its own"
        )
    if path.suffix == ".py":
        return syntax_digest(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Return the modules of its own top-level package or `ovseg` that a module imports anywhere."""
    path = _source(module)
    if path is None or path.suffix != ".py":
        return frozenset()
    own = {module.partition(".")[0], "ovseg"}
    names = set()
    for node in _runtime_nodes(_parsed(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.partition(".")[0] in own}
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(node, module, path)
            if home.partition(".")[0] in own:
                names |= {_imported_module(home, alias.name) for alias in node.names}
    return frozenset(names)


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those under `if TYPE_CHECKING:`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield other
                yield from _runtime_nodes(other)
        else:
            yield node
            yield from _runtime_nodes(node)


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """Return the module that an import is from, with relative imports resolved."""
    if not node.level:
        return node.module or ""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def _imported_module(home: str, name: str) -> str:
    """Return the module that `from home import name` imports: `home.name`, or `home` itself."""
    path = _source(home)
    is_package = path is not None and path.name == "__init__.py"
    below = f"{home}.{name}"
    return below if is_package and _source(below) is not None else home


def is_infrastructure(module: str) -> bool:
    """Whether a module is in a package that makes no results."""
    return any(module == room or module.startswith(f"{room}.") for room in INFRASTRUCTURE)


def closure(modules: Iterable[str]) -> frozenset[str]:
    """Return some modules and everything they import, transitively.

    Args:
        modules: dotted names.

    Returns:
        Dotted names, without `INFRASTRUCTURE`, packages (whose `__init__` holds no code), and
        modules outside both `ovseg` and the importing module's own package.
    """
    reached: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        path = _source(module)
        if module in reached or is_infrastructure(module):
            continue
        if path is not None and path.name == "__init__.py":
            continue
        reached.add(module)
        pending += _imports(module)
    return frozenset(reached)


def code_digest(modules: Iterable[str]) -> str:
    """Return the digest (16 hex digits) of some modules and everything they import.

    Args:
        modules: dotted names; see `closure`.

    Raises:
        OvsegError: see `module_digest`.
    """
    parts = [f"{module}:{module_digest(module)}" for module in sorted(closure(modules))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
