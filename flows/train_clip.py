"""Rebuild the compact CLIP that ships with the repository, from storybook scenes and captions.

    python -m flows.train_clip [--seed 0] [--out DIR] [--work DIR]

About half an hour on two quiet CPU cores. Writes the weights, the vocabulary cut for them and
MODEL_CARD.md; rendered pictures stay in the work folder for the next run.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import Arguments, weights, written

WEIGHTS = Path(__file__).resolve().parents[1] / "ovseg" / "storybook" / "weights" / "clip"


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the program where it cannot be."""
    parser = Arguments(description="Train the compact CLIP that ovseg ships.")
    parser.add_argument(
        "--out", type=weights("--out"), default=WEIGHTS, help="the shipped folder, or a new one"
    )
    parser.add_argument(
        "--work", type=written("--work"), default=Path("runs/train-clip"), help="pictures"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # before Prefect is imported: what is wrong is said at once

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_clip import train_clip


@flow(name="train-clip", log_prints=True)
def train_clip_flow(
    out: Path = WEIGHTS, seed: int = 0, work: Path = Path("runs/train-clip")
) -> dict[str, float]:
    """Train, evaluate and publish the compact CLIP.

    Args:
        out: folder the model replaces.
        seed: equal seeds on one machine give equal weights.
        work: where rendered pictures are kept.

    Returns:
        The metrics on validation scenes.
    """
    return train_clip(out, seed, work)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    chosen = arguments()
    return print_metrics(lambda: train_clip_flow(chosen.out, chosen.seed, chosen.work))


if __name__ == "__main__":
    sys.exit(main())
