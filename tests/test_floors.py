"""The rules of the house: imports go down only, modules stay small, names stay honest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for floor in ("flows", "tasks", "ovseg", "benchmarks")
    for path in (ROOT / floor).rglob("*.py")
)
SEEN_FROM_FLOWS = {  # what a flow is configured with and hands on, nothing that computes
    "ovseg.ablations.request",
    "ovseg.availability",
    "ovseg.cli",
    "ovseg.config",
    "ovseg.digests",
    "ovseg.errors",
    "ovseg.checkpoint_presets",
    "ovseg.configure",
    "ovseg.interrupts",
    "ovseg.overrides",
    "ovseg.registry",
    "ovseg.paths",
    "ovseg.presets",
    "ovseg.settings",
    "ovseg.storage",
    "ovseg.streams",
    "ovseg.terminal_text",
    "ovseg.unheard",
}
FORBIDDEN = {
    "ovseg": {"prefect", "mlflow", "tasks", "flows"},
    "tasks": {"flows"},
}
# The packages of the library as one reads them: each may import those to its left.
READING_ORDER = (
    "data",
    "models",
    "mining",
    "training",
    "evaluation",
    "storybook",
    "analysis",
    "ablations",
)
AGAINST_IT = {
    ("data/vocabulary.py", "ovseg.storybook.catalogue"),  # the storybook's words; nothing heavier
    ("evaluation/pair_truth.py", "ovseg.storybook.catalogue"),
}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path):
    floor = path.relative_to(ROOT).parts[0]
    forbidden = set(FORBIDDEN.get(floor, set()))
    if path == ROOT / "ovseg" / "serving.py":
        forbidden.discard("mlflow")
    climbing = {name for name in imported(path) if name.split(".")[0] in forbidden}
    assert not climbing
    if floor == "flows":
        library = {name for name in imported(path) if name.split(".")[0] == "ovseg"}
        assert library <= SEEN_FROM_FLOWS, "a flow runs tasks, it does not call the library"


def test_packages_import_those_to_their_left():
    against = set()
    for place, package in enumerate(READING_ORDER):
        later = tuple(f"ovseg.{name}" for name in READING_ORDER[place + 1 :])
        for path in (ROOT / "ovseg" / package).rglob("*.py"):
            home = path.relative_to(ROOT / "ovseg").as_posix()
            against |= {(home, name) for name in imported(path) if name.startswith(later)}
    left = {
        (home, name)
        for home, name in against
        if not any(home == excused and name.startswith(what) for excused, what in AGAINST_IT)
    }
    assert not left
    folders = {path.parent.name for path in (ROOT / "ovseg").glob("*/__init__.py")}
    assert set(READING_ORDER) == folders, "a new package has its place in the order"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_have_one_subject(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    limit = 150 if path.parent == ROOT / "flows" and path.name != "cli.py" else 350
    assert lines <= limit, f"{lines} lines: a second subject has crept in"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring and len(docstring) > 20


def test_the_library_imports_without_prefect_and_mlflow():
    """A notebook with neither installed can import every module but the MLflow model."""
    import subprocess
    import sys

    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] == "ovseg" and path.name != "serving.py"
    ]
    program = (
        "import sys, importlib\n"
        "sys.modules['prefect'] = sys.modules['mlflow'] = None\n"
        f"for name in {modules!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
