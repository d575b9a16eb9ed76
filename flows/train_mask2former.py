"""Rebuild the small Mask2Former that ships with the repository, or train that of another split.

    python -m flows.train_mask2former [--split 0] [--out DIR] [--seed 0]

Minutes on a CPU, as the card says; `load_maskformer` knows it as storybook-mask2former. Writes the
weights and their MODEL_CARD.md.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import Arguments, weights


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the program where it cannot be."""
    parser = Arguments(description="Train the small Mask2Former that ovseg ships.")
    parser.add_argument(
        "--out", type=weights("--out"), help="a new folder; the shipped one if not given"
    )
    parser.add_argument("--split", type=int, default=0, help="which categories are seen")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # before Prefect is imported: what is wrong is said at once

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_maskformer import train_mask2former


@flow(name="train-mask2former", log_prints=True)
def train_mask2former_flow(
    out: Path | None = None, split: int = 0, seed: int = 0
) -> dict[str, float]:
    """Train, measure and publish the small Mask2Former.

    Args:
        out: folder of the weights, replaced as a whole; the shipped one of split 0 if empty.
        split: which categories are seen, so that their masks are trained on.
        seed: equal seeds on one machine give equal weights.

    Returns:
        The metrics on validation scenes.
    """
    return train_mask2former(out, split, seed)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    chosen = arguments()
    return print_metrics(lambda: train_mask2former_flow(chosen.out, chosen.split, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())
