"""Rebuild the compact convolutional CLIP that ships with the repository, beside the shipped texts.

    python -m flows.train_conv_clip [--seed 0] [--device cuda] [--out DIR] [--work DIR]

A minute and a half on a GPU, half an hour on two CPU cores. Writes the weights, the vocabulary of
the text tower and MODEL_CARD.md; rendered pictures stay in the work folder for the next run.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import Arguments, device, weights, written

WEIGHTS = Path(__file__).resolve().parents[1] / "ovseg" / "storybook" / "weights" / "conv_clip"


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the program where it cannot be."""
    parser = Arguments(description="Train the compact convolutional CLIP that ovseg ships.")
    parser.add_argument(
        "--out", type=weights("--out"), default=WEIGHTS, help="the shipped folder, or a new one"
    )
    parser.add_argument(
        "--work", type=written("--work"), default=Path("runs/train-conv-clip"), help="pictures"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=device, default="cpu", help="cpu or cuda")
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # before Prefect is imported: what is wrong is said at once

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_conv_clip import train_conv_clip


@flow(name="train-conv-clip", log_prints=True)
def train_conv_clip_flow(
    out: Path = WEIGHTS,
    seed: int = 0,
    work: Path = Path("runs/train-conv-clip"),
    device: str = "cpu",
) -> dict[str, float]:
    """Train, evaluate and publish the compact convolutional CLIP.

    Args:
        out: folder the model replaces.
        seed: equal seeds on one machine give equal weights.
        work: where rendered pictures are kept.
        device: where it is trained, cpu or cuda.

    Returns:
        The metrics on validation scenes.
    """
    return train_conv_clip(out, seed, work, device)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    chosen = arguments()
    return print_metrics(
        lambda: train_conv_clip_flow(chosen.out, chosen.seed, chosen.work, chosen.device)
    )


if __name__ == "__main__":
    sys.exit(main())
