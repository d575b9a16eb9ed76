"""Rebuild a compact MaskFormer that ships with the repository: one a split of the categories.

    python -m flows.train_maskformer [--split 0] [--out DIR] [--seed 0] [--clip storybook]

Half an hour and more on a CPU, as the cards say. Writes the weights and their MODEL_CARD.md.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import Arguments, clip, weights


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the program where it cannot be."""
    parser = Arguments(description="Train the compact MaskFormer that ovseg ships.")
    parser.add_argument(
        "--out", type=weights("--out"), help="a new folder; the shipped one if not given"
    )
    parser.add_argument("--split", type=int, default=0, help="which categories are seen")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clip", type=clip, default="storybook", help="storybook, a folder or ARCH/pretrained"
    )
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # before Prefect is imported: what is wrong is said at once

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_maskformer import train_maskformer


@flow(name="train-maskformer", log_prints=True)
def train_maskformer_flow(
    out: Path | None = None, split: int = 0, seed: int = 0, clip: str = "storybook"
) -> dict[str, float]:
    """Train, measure and publish the compact MaskFormer.

    Args:
        out: folder of the weights, replaced as a whole; the shipped one of the split if empty.
        split: which categories are seen, so that their masks are trained on.
        seed: equal seeds on one machine give equal weights.
        clip: the CLIP whose text embeddings classify the queries.

    Returns:
        The metrics on validation scenes.
    """
    return train_maskformer(out, split, seed, clip)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    chosen = arguments()
    return print_metrics(
        lambda: train_maskformer_flow(chosen.out, chosen.split, chosen.seed, chosen.clip)
    )


if __name__ == "__main__":
    sys.exit(main())
