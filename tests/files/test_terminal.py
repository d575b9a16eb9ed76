"""What reaches a terminal: others' texts neither steer it nor pass for markup."""

import io
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ovseg.errors import OvsegError
from ovseg.files.escaping import STEERS, say, terminal_line, terminal_text
from ovseg.files.terminal import Terminal

HOSTILE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb",
    "a\x08b",
    "\u202egpj.exe",
    "\u2066a\u2069",
    "zero\u200bwidth\ufeff",
    "\u2028line",
    "half \ud800",
    "\U000e0041tag",
    "\x7f",
    "nul\x00",
]
MARKUP = ["[/red]", "[bold]x", "[link=http://x]y[/link]", ":smile:", "[", "\\[x]", "[@click=a]b"]


def steers(text):
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in STEERS]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_steers_is_written_out(text):
    shown = terminal_text(text)
    assert not steers(shown) and "\\" in shown
    assert terminal_text(shown) == shown


@pytest.mark.parametrize(
    "text", ["photo.jpg", "größe, 犬, ñandú, éléphant", "a\tb\nc", "", "■ ✓ 🐈", "[x]", "C:\\x"]
)
def test_other_texts_stay_as_they_are(text):
    assert terminal_text(text) == text


def test_a_line_is_one_line():
    assert terminal_line(" a\n\n b\r\nc\u2028d\x0be\x85f ") == "a b c d e f"


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=80))
def test_no_text_steers(text):
    assert not steers(terminal_text(text))
    assert len(terminal_line(text).splitlines()) <= 1
    assert terminal_text(terminal_text(text)) == terminal_text(text)


def printed(*renderables, **options):
    console = Terminal(file=io.StringIO(), width=200, **options)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE + MARKUP)
def test_the_console_prints_names_and_nothing_else_of_them(text):
    table = Table(text, title=text)
    table.add_column(Text(text))
    table.add_row(text, Text(text))
    shown = printed(text, Text(text), table, f"{text}: done")
    assert not steers(shown)
    assert shown.count(terminal_text(text)) >= 5


@pytest.mark.parametrize("text", HOSTILE + MARKUP)
def test_a_progress_bar_is_named_and_not_steered(text):
    console = Terminal(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    column = TextColumn("{task.description:<26}", markup=False)
    with Progress(column, console=console, auto_refresh=False) as bar:
        bar.add_task(text, total=1)
        bar.refresh()
    shown = console.file.getvalue()
    assert terminal_text(text.translate(dict.fromkeys(b"\x07\x08\x0b\x0c\r"))) in shown
    for own in ("\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\r", "\x1b[1A"):  # rich's: hide, show, clear
        shown = shown.replace(own, "")
    assert not steers(shown)


def test_commands_print_any_name(tmp_path):
    import pyarrow as pa

    from ovseg.cli.prepare import _show
    from ovseg.cli.tables import print_table
    from ovseg.data.benchmarks.check import Problem

    console = Terminal(file=io.StringIO(), width=200)
    for name in HOSTILE[:-1] + MARKUP:
        if "\ud800" not in name and "\r" not in name:  # Arrow holds no half characters
            print_table(pa.table({name: [name]}), console=console)
        _show("file", [Problem(name, name)], console)
    assert not steers(console.file.getvalue())


def test_a_printed_line_and_an_error_steer_nothing(capsys):
    say("\x1b[31mred \u202e", error=True)
    say(str(OvsegError("no file \x1b[2J\nof that name")))
    told = capsys.readouterr()
    assert told.err == "\\x1b[31mred \\u202e\n"
    assert told.out == "no file \\x1b[2J of that name\n"
