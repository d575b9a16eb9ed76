"""Run every benchmark, or those named: `make bench`, `python -m bench nouns regions`.

Each prints what it measured, on which machine, at which commit. Compare only numbers of one run;
quote the ratio.
"""

import os
import platform
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import torch

BENCHMARKS = (
    "nouns",
    "regions",
    "naming",
    "proposals",
    "proposal_sources",
    "training",
    "agreement",
    "sql",
    "compaction",
)


def main() -> None:
    """Print the machine, then run the benchmarks named on the command line, or all."""
    unknown = set(sys.argv[1:]) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no benchmark named {', '.join(sorted(unknown))}: {', '.join(BENCHMARKS)}")
    root = Path(__file__).resolve().parent.parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"commit {commit or 'unknown'}; {os.cpu_count()} cores {platform.machine()}, {gpu},"
          f" torch {torch.__version__}")  # fmt: skip
    for name in sys.argv[1:] or BENCHMARKS:
        print(f"\n{name}", flush=True)
        import_module(f"bench.{name}").main()  # some need a GPU or data


if __name__ == "__main__":
    main()
