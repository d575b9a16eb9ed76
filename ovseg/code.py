"""The code digest: what a module does, without its comments, docstrings and layout."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


def syntax_digest(source: str) -> str:
    """sha256 of a source text's syntax tree with docstrings removed.

    Args:
        source: Python source.

    Returns:
        64 hex digits; equal for sources that differ in comments, docstrings or layout alone.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


@functools.cache
def _module_digest(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module} is named in a stage's code tuple but does not exist")
    path = Path(spec.origin)
    if path.suffix == ".py":
        return syntax_digest(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest(modules: Iterable[str]) -> str:
    """The digest (16 hex digits) of the modules a stage depends on, by dotted name."""
    parts = [f"{module}:{_module_digest(module)}" for module in sorted(modules)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
