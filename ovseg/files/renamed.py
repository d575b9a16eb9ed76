"""Old names of modules, kept for one release because registered models import them.

A registered model carries a copy of the module that serves it. This finder resolves the old names
which that copy imports; `import ovseg` installs it.
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
"""Old module name to new module name."""


class _Alias(Loader):
    """Loads the module with the new name for the old one."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module itself, not a copy."""
        module = importlib.import_module(RENAMED[spec.name])
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import replaced; it is already loaded."""
        module.__spec__ = self.own_spec


class RenamedFinder(MetaPathFinder):
    """Finds the names in `RENAMED` and leaves all others to Python."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a renamed module; None for any other."""
        return ModuleSpec(fullname, _Alias()) if fullname in RENAMED else None


def install() -> None:
    """Install the finder as Python's last resort."""
    if not any(isinstance(finder, RenamedFinder) for finder in sys.meta_path):
        sys.meta_path.append(RenamedFinder())
