"""The rules of the house: imports go down only, modules stay small, names stay honest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for floor in ("flows", "tasks", "ovseg", "bench") for path in (ROOT / floor).rglob("*.py")
)
MODULES = [path for path in SOURCES if path.name != "__init__.py"]
# What a flow is configured with and hands on, nothing that computes.
SEEN_FROM_FLOWS = ("ovseg.cli", "ovseg.config", "ovseg.errors", "ovseg.files", "ovseg.stages")
FORBIDDEN = {
    "ovseg": {"prefect", "mlflow", "tasks", "flows"},
    "tasks": {"flows"},
}
# The rooms of the library as one reads them: each may import those before it.
READING_ORDER = (
    "storybook",
    "files",
    "config",
    "stages",
    "data",
    "models",
    "mining",
    "training",
    "evaluation",
    "catalog",
    "pretraining",
    "comparison",
    "report",
    "ablations",
    "cli",
)
AT_THE_TOP = {"__init__.py", "errors.py", "serving.py"}
MOST_MODULES = 18
FEWEST_LINES, MOST_LINES = 50, 350
SHORT = {  # each is a registry, a protocol or an error, or says why
    "ovseg/errors.py",
    "ovseg/storybook/weights.py",  # a table of folders
}


def imported(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it, but to annotate types."""
    names: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))
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
        called = {name for name in library if not name.startswith(SEEN_FROM_FLOWS)}
        assert not called, "a flow runs tasks, it does not call the library"


def test_rooms_import_those_before_them():
    against = set()
    for place, room in enumerate(READING_ORDER):
        later = tuple(f"ovseg.{name}." for name in READING_ORDER[place + 1 :])
        for path in (ROOT / "ovseg" / room).rglob("*.py"):
            home = path.relative_to(ROOT / "ovseg").as_posix()
            against |= {(home, name) for name in imported(path) if f"{name}.".startswith(later)}
    assert not against


def test_the_library_is_rooms():
    top = ROOT / "ovseg"
    assert {path.name for path in top.glob("*.py")} == AT_THE_TOP
    assert {path.parent.name for path in top.glob("*/__init__.py")} == set(READING_ORDER)


def test_no_folder_is_a_heap():
    folders = {path.parent for path in SOURCES}
    heaps = {
        folder.relative_to(ROOT).as_posix(): count
        for folder in folders
        if (count := sum(path.parent == folder for path in MODULES)) > MOST_MODULES
    }
    assert not heaps


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_modules_have_one_subject(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    limit = 150 if path.parent == ROOT / "flows" and path.name != "cli.py" else MOST_LINES
    assert lines <= limit, f"{lines} lines: a second subject has crept in"
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("ovseg/") and name not in SHORT:
        assert lines >= FEWEST_LINES, f"{lines} lines: part of another module, or say why in SHORT"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_what_may_be_short_is():
    assert all(
        (ROOT / name).read_text(encoding="utf-8").count("\n") < FEWEST_LINES for name in SHORT
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "flows").glob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_a_file_has_one_flow(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    flows = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(each).split("(")[0] == "flow" for each in node.decorator_list)
    ]
    assert len(flows) <= 1


def test_no_stage_lists_its_own_code():
    """What a stage computes with is found by its imports: `ovseg.files.digests.closure`."""
    listing = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.Assign | ast.AnnAssign) and isinstance(each.value, ast.Tuple)
        for name in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if ast.unparse(name) == "code"
    ]
    assert not listing


def test_queries_are_files_of_sql():
    """Whoever asks the tables something has it in `sql/`, one select a file."""
    rooms = ("report", "comparison", "ablations", "cli")
    written = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in rooms
        for path in (ROOT / "ovseg" / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.lstrip().lower().startswith(("select ", "with "))
        and " from " in node.value.lower()
    ]
    assert not written


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
