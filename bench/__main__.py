"""Run every benchmark, or those named: `make bench`, `python -m bench nouns regions`.

    python -m bench --json docs/performance/bench.json --plot docs/performance/bench.png
    python -m bench --stored --json docs/performance/bench.json --markdown

Each prints what it measured, on which machine, at which commit. Compare only numbers of one run;
quote the ratio. The file of JSON keeps the figures of benchmarks that were not run again.
"""

import argparse
import sys
import traceback
from importlib import import_module
from pathlib import Path

from bench import figures

BENCHMARKS = (
    "nouns",
    "regions",
    "crops",
    "naming",
    "proposals",
    "proposal_sources",
    "mining",
    "training",
    "training_input",
    "training_step",
    "agreement",
    "rle",
    "scoring",
    "sql",
    "compaction",
)

FOLDERS = {
    **dict.fromkeys(("training", "training_input", "training_step"), "trainings."),
    **dict.fromkeys(("sql", "compaction"), "tables."),
}
"""Folder of a benchmark that is not at the top, as in dotted names."""


def module_of(name: str) -> str:
    """Return the module of a benchmark."""
    return f"bench.{FOLDERS.get(name, '')}{name}"


def main() -> None:
    """Print the machine, then run the benchmarks named on the command line, or all."""
    options = _options()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}: {', '.join(BENCHMARKS)}")
    measured: figures.Stored = {}
    failed = [] if options.stored else _run(options.names or BENCHMARKS, options.json, measured)
    stored = measured if options.json is None else figures.read(options.json)
    if options.plot is not None and stored:
        from bench.chart import draw

        draw(stored, options.plot)
        print(f"\n{options.plot}")
    if options.markdown:
        print(f"\n{figures.markdown(stored)}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures in this file")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the figures")
    parser.add_argument("--markdown", action="store_true", help="print the figures as a table")
    parser.add_argument("--stored", action="store_true", help="run nothing, show what FILE has")
    options = parser.parse_args()
    if options.stored and (options.json is None or options.names):
        parser.error("--stored shows what --json FILE has, and takes no names")
    return options


def _run(names: tuple[str, ...], path: Path | None, measured: figures.Stored) -> list[str]:
    """Run benchmarks, and return those that failed.

    Args:
        names: of the benchmarks.
        path: file for the figures of each as soon as they are there.
        measured: gets the figures.
    """
    commit, machine = figures.commit(), figures.machine()
    print(f"commit {commit}; {machine['cores']} cores {machine['cpu']},"
          f" {machine['gpu'] or 'no GPU'}, torch {machine['torch']}")  # fmt: skip
    failed = []
    for name in names:
        print(f"\n{name}", flush=True)
        try:
            # imported here, because some need a GPU or data
            rows = figures.checked(import_module(module_of(name)).main())
            if rows:
                measured[name] = figures.entry(rows, commit, machine)
                if path is not None:
                    figures.store(path, name, measured[name])
        except Exception:  # the figures of the others are not lost
            traceback.print_exc()
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()
