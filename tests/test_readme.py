"""What the documents say to type exists: commands, options, queries, targets, modules, files."""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import typer

from bench.__main__ import BENCHMARKS
from bench.__main__ import main as run_benchmarks
from flows.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
TEXT = {path.name: path.read_text(encoding="utf-8") for path in DOCUMENTS}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:\A|(?<=\n\n))(?: {4}[^\n]+(?:\n+|\Z))+")
INLINE = re.compile(r"`((?:ovseg|make|python -m) [^`]+)`")
SHELLS = ("bash", "sh", "console")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def shell_lines(block: str) -> Iterator[list[str]]:
    """The words of each command; one goes on where its line ends in a backslash or a quotation."""
    begun = ""
    for line in block.replace("\\\n", " ").splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            words = shlex.split(begun, comments=True)
        except ValueError:  # no closing quotation yet
            continue
        begun = ""
        yield words
    assert not begun, f"a quotation without an end: {begun}"


def commands(text: str) -> list[list[str]]:
    """The words of every command in bash and indented blocks, and of those in backticks.

    An indented block is one of commands; what else is shown is fenced and says its language.
    """
    fenced = [block for language, block in BLOCK.findall(text) if language in SHELLS]
    text = BLOCK.sub("", text)
    inline = [" ".join(each.split()) for each in INLINE.findall(INDENTED.sub("", text))]
    found = []
    for words in chain(*map(shell_lines, [*fenced, *INDENTED.findall(text), *inline])):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]  # a variable set for one command
        if words:
            found.append([word for word in words if word != "&"])
    return found


COMMANDS = {" ".join(words): words for name in TEXT for words in commands(TEXT[name])}
OVSEG = {text: words for text, words in COMMANDS.items() if words[0] == "ovseg"}
MAKE = {text: words for text, words in COMMANDS.items() if words[0] == "make"}
PYTHON = {text: words for text, words in COMMANDS.items() if words[:2] == ["python", "-m"]}
MODULES = {words[2] for words in PYTHON.values()}


def targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE))


def test_the_readme_has_commands_to_check():
    assert len(OVSEG) >= 8 and {"make demo", "make test"} <= set(MAKE)
    assert "flows.pretrain" in MODULES


def test_commands_are_found_wherever_they_are_written():
    text = """Prose, `ovseg sql
funnel` in it.

    ovseg mine --captions a.json \\
        --images a            # a comment, isn't it

    ovseg run --set 'arms={"a":
      []}' --set seed=1

No block, as no blank line is above:
    ovseg nothing

```python
call("ovseg no command")

    ovseg no command
```

```bash
A=1 make demo
```
"""
    assert commands(text) == [
        ["make", "demo"],
        ["ovseg", "mine", "--captions", "a.json", "--images", "a"],
        ["ovseg", "run", "--set", 'arms={"a":\n      []}', "--set", "seed=1"],
        ["ovseg", "sql", "funnel"],
    ]
    blocks = chain(*(INDENTED.findall(BLOCK.sub("", each)) for each in TEXT.values()))
    first = {words[0] for words in chain(*map(shell_lines, blocks)) if words}
    assert {"ovseg"} < first <= {"ovseg", "make", "python"}, "fence what is no command"


@pytest.mark.parametrize("text", OVSEG)
def test_ovseg_commands_are_understood(text):
    """Parsed by the program itself, without running anything."""
    program = typer.main.get_command(app)
    name, *words = OVSEG[text][1:]
    command = program.get_command(None, name)
    assert command is not None, f"there is no command {name!r}"
    context = command.make_context(name, words)
    if name == "sql" and context.params["name"]:
        assert (REPOSITORY / "sql" / "queries" / f"{context.params['name']}.sql").is_file()
    if "preset" in context.params:
        from ovseg.config.overrides import parse_setting
        from ovseg.config.presets import load_preset

        settings = [parse_setting(item) for item in context.params.get("settings") or ()]
        load_preset(context.params["preset"], dict(settings))


@pytest.mark.parametrize("text", MAKE)
def test_make_targets_exist(text):
    for word in MAKE[text][1:]:
        assert "=" in word or word in targets()


def test_every_target_is_phony_or_a_file():
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == targets()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_modules_to_run_exist(module):
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("text", PYTHON)
def test_modules_know_the_options_they_are_given(text):
    _, _, module, *words = PYTHON[text]
    modules = [module, "flows.arguments"] if module.startswith("flows.") else [module]
    source = "".join(
        Path(importlib.util.find_spec(each).origin).read_text(encoding="utf-8") for each in modules
    )
    for option in (word.split("=")[0] for word in words if word.startswith("--")):
        assert f'"{option}"' in source, option
    if module == "bench":
        assert {word for word in words if not word.startswith("-")} <= set(BENCHMARKS)


def test_a_benchmark_named_on_the_command_line_runs(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "nouns"])
    monkeypatch.setattr("bench.nouns.main", lambda: print("measured"))
    run_benchmarks()
    assert capsys.readouterr().out.endswith("\nnouns\nmeasured\n")


def test_settings_named_in_the_text_exist():
    from ovseg.config.overrides import parse_setting
    from ovseg.config.presets import load_preset
    from ovseg.training.segmentation.recipes import recipe

    lines = "\n".join(TEXT.values()).replace("\\\n", " ").splitlines()
    named = [
        (setting, "train_segmentation" in line)
        for line in lines
        for setting in re.findall(r"--set ([\w.]+=[^\s`]+)", line)
    ]
    assert {of_a_recipe for _, of_a_recipe in named} == {False, True}
    for setting, of_a_recipe in named:
        given = dict([parse_setting(setting)])
        if of_a_recipe:
            recipe("swin", given)
        else:
            load_preset("storybook", given)  # it leaves no setting out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(path):
    for target in LINK.findall(BLOCK.sub("", TEXT[path.name])):
        if target.startswith(("http://", "https://", "mailto:", "#")):
            continue
        assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_folders_named_in_the_text_exist(path):
    for name in re.findall(
        r"`((?:ovseg|flows|tasks|sql|tests|docs|bench)/[\w./]*)`", TEXT[path.name]
    ):
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_nothing_waits_to_be_filled_in(path):
    assert not re.search(r"@@\w+@@|\bTODO\b|\bTBD\b|^[A-Z]{4,}: ", TEXT[path.name], re.MULTILINE)
