"""Modules under names they had before, for one release: registered models import them.

A registered model carries the module that serves it, as it was then; what that imports by a name
of then is found here. `import ovseg` installs the finder.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

RENAMED = {
    "ovseg.models.served": "ovseg.models.packaged",
    "ovseg.models.systems": "ovseg.models.build",
    "ovseg.terminal_text": "ovseg.files.escaping",
}
"""By the name of before the module as it is called now."""


class _Alias(Loader):
    """Gives the module of the new name for the old one."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module itself, not a copy."""
        module = importlib.import_module(RENAMED[spec.name])
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It is loaded; what the import has put on it is taken back."""
        module.__spec__ = self.own_spec


class RenamedFinder(MetaPathFinder):
    """Finds the names of `RENAMED`, and leaves all others to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a renamed module; None for any other."""
        return ModuleSpec(fullname, _Alias()) if fullname in RENAMED else None


def install() -> None:
    """Have Python ask for renamed modules, after all others it knows."""
    if not any(isinstance(finder, RenamedFinder) for finder in sys.meta_path):
        sys.meta_path.append(RenamedFinder())
