"""Names of modules that registered models of before import."""

import importlib
import subprocess
import sys

import pytest

import ovseg.models.packaged
from ovseg.files.renamed import RENAMED


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_module_is_found_under_its_former_name(old: str, new: str):
    module = importlib.import_module(new)
    spec = module.__spec__
    assert importlib.import_module(old) is module
    assert module.__spec__ is spec and module.__name__ == new


def test_in_a_fresh_process_too_and_nothing_else_is():
    program = (
        "from ovseg.models.served import restored; import ovseg.models.packaged as packaged;"
        " assert restored is packaged.restored; import ovseg.models.nosuch"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: No module named 'ovseg.models.nosuch'"
    )


def test_names_are_gone_that_nothing_registered_imports():
    assert ovseg.models.packaged.restored
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ovseg.storage")
