"""The plan of the house names only what is there: files, folders, and names in modules."""

import importlib
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "docs" / "architecture.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ovseg" / "config" / "registry.py",
]
NAMED = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
QUOTED = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"(?:ovseg|tasks|flows)(?:\.\w+)+")
FILE = re.compile(r"(?:ovseg|tasks|flows|sql|tests|docs)/[\w./]*|\w+\.(?:md|toml|yaml)")


def found(pattern: re.Pattern[str]) -> list[str]:
    """What all pages quote of one kind, each once."""
    quoted = (text for page in NAMED.values() for text in QUOTED.findall(page))
    return sorted({text for text in quoted if pattern.fullmatch(text)})


def resolve(dotted: str) -> object:
    """The module, class or constant of a dotted name."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.is_dir() or path.with_suffix(".py").is_file():
            value = importlib.import_module(".".join(parts[:length]))
            for attribute in parts[length:]:
                value = getattr(value, attribute)
            return value
    raise ModuleNotFoundError(dotted)


@pytest.mark.parametrize("dotted", found(DOTTED))
def test_names_in_modules_exist(dotted):
    resolve(dotted)


@pytest.mark.parametrize("name", found(FILE))
def test_files_and_folders_exist(name):
    assert (ROOT / name).exists()


def test_every_stage_folder_of_the_walks_is_a_stage_s():
    from ovseg.stages.stage import Stage

    for dotted in found(DOTTED):
        resolve(dotted)  # imports the modules, so that their stages are known
    stages = {stage.name for stage in Stage.__subclasses__() if "name" in vars(stage)}
    walks = NAMED["architecture.md"].partition("## The contract")[0]
    left = set(re.findall(r"\| `([a-z/]+)/` \|$", walks, re.MULTILINE))
    assert len(left) >= 9 and left <= stages


def test_the_picture_names_the_folders_of_the_library():
    svg = ElementTree.parse(ROOT / "docs" / "architecture.svg")
    texts = " ".join(element.text or "" for element in svg.iter() if element.tag.endswith("text"))
    folders = {path.parent.name for path in (ROOT / "ovseg").glob("*/__init__.py")}
    assert {f"{name}/" for name in folders | {"flows", "tasks", "ovseg", "sql"}} <= set(
        texts.split()
    )
    files = re.findall(r"\w+\.py", texts)
    assert len(files) == 3
    assert all(
        (ROOT / "flows" / name).is_file() or (ROOT / "tasks" / name).is_file() for name in files
    )
