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
# What a stage imports and need not name in its code: it carries results, it does not make them.
INFRASTRUCTURE = {
    "ovseg.archives",  # where bytes lie; what they are is in the digests by their sha256
    "ovseg.code",
    "ovseg.benchmark_config",  # its values are in the digest, as are the next one's
    "ovseg.config",
    "ovseg.data.decode_ahead",  # says which process decodes; the pixels are those of data.images
    "ovseg.errors",
    "ovseg.json_files",  # reads a value or refuses the file, changes none
    "ovseg.interrupts",
    "ovseg.locations",
    "ovseg.paths",
    "ovseg.named_settings",  # looks at names, changes none
    "ovseg.publishing",
    "ovseg.registry",
    "ovseg.targets",  # refuses places to write to, changes nothing that is written
    "ovseg.systems",  # names for settings
    "ovseg.threads",  # another number is in the digest
    "ovseg.report_config",
    "ovseg.screening_config",
    "ovseg.schema",  # a changed table raises the stage's schema_version
    "ovseg.stages",
    "ovseg.storage",
    "ovseg.terminal",  # prints, as the next one
    "ovseg.terminal_text",
    "ovseg.urls",
    "ovseg.workers",  # which process decodes changes no pixel
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


def stages() -> list:
    """Every stage of the library."""
    import importlib

    from ovseg.stages import Stage

    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] == "ovseg" and path.name != "serving.py":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            importlib.import_module(name.removesuffix(".__init__"))
    found = [kind for kind in Stage.__subclasses__() if kind.__module__.startswith("ovseg.")]
    assert len(found) >= 10
    return found


def test_stages_name_code_that_exists():
    from ovseg.code import code_digest

    for kind in stages():
        assert kind.__module__ in kind.code, f"{kind.__name__} leaves out its own module"
        assert code_digest(kind.code)


def own_imports(module: str) -> set[str]:
    """The modules of the library that one of them imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source_of(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"  # `from ovseg.data import masks`
                found.add(below if source_of(below).is_file() else node.module)
    return {name for name in found if name.startswith("ovseg.")}


def source_of(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


def test_stages_name_the_code_they_import():
    """A stage whose code tuple misses a module it computes with would serve stale results."""
    for kind in stages():
        known = {*kind.code, *INFRASTRUCTURE}
        missing = {name for module in kind.code for name in own_imports(module) - known}
        assert not missing, f"{kind.__name__}.code lacks {sorted(missing)}"
