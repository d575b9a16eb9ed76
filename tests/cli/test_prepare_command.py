"""The list of published benchmarks on the console."""

import io

from rich.console import Console

from ovseg.cli.prepare import prepare_command
from ovseg.data.benchmarks.published import PUBLISHED


def test_every_benchmark_is_listed_and_no_path_is_folded():
    console = Console(file=io.StringIO(), width=30)
    prepare_command(None, root=None, out=None, console=console)
    lines = console.file.getvalue().splitlines()
    for name, spec in PUBLISHED.items():
        (at,) = [n for n, line in enumerate(lines) if line.startswith(f"{name}: ")]
        assert f"{len(spec.classes)} classes" in lines[at]
        assert [line.strip() for line in lines[at + 1 : at + 1 + len(spec.tree)]] == [*spec.tree]
