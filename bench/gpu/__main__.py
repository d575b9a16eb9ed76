"""Measure one GPU in parts, in at most 12 minutes; a second call goes on where the first stopped.

    python -m bench.gpu --out gpu.json
    python -m bench.gpu --out gpu.json --parts naming,training
    python -m bench.gpu --device cpu --tiny

Weights are random and images are generated, so nothing is downloaded: the figures are about time,
memory and rounding. Every figure is written as soon as it is there. The most important parts come
first, and none begins a figure after its own time or the whole call's is over.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module
from pathlib import Path

from bench.gpu.results import Part, Results
from bench.gpu.sizes import FULL, TINY, Sizes

PARTS = {
    "naming": 150,
    "training": 150,
    "proposals": 90,
    "mining": 120,
    "one_pass": 60,
    "agreement": 90,
}
"""Parts in the order of their importance, and the seconds that each may take."""
LIMIT = 690
"""Seconds of a whole call; the figure that is then being measured takes what is left of 12 min."""


def main() -> None:
    """Measure the parts named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE.json")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--device", default="auto", help="a torch device; auto is the first GPU")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes: does it run at all")
    options = parser.parse_args()
    names = options.parts.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"no part named {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    sizes = TINY if options.tiny else FULL
    results = Results(options.out, options.device, tiny=options.tiny)
    print(f"{results.device_name}, into {options.out}")
    ends = time.monotonic() + LIMIT
    for name in (name for name in PARTS if name in names):
        part = results.part(name, until=min(ends, time.monotonic() + PARTS[name]))
        if part.finished:
            print(f"\n{name}: measured before")
            continue
        print(f"\n{name}", flush=True)
        _measure(part, sizes)
    if failed := results.failed():
        sys.exit(f"failed: {', '.join(failed)}")


def _measure(part: Part, sizes: Sizes) -> None:
    """Measure a part, unless a package that it needs is missing."""
    try:
        import_module(f"bench.gpu.{part.name}").measure(part, sizes)
    except ModuleNotFoundError as error:
        part.skip(f"the package {error.name} is missing")
    except Exception as error:  # the figures of other parts are not lost
        part.fail(error)
    else:
        part.finish()


if __name__ == "__main__":
    main()
