"""Rebuild the compact MaskFormer that ships with the repository.

    python -m flows.train_maskformer [--out DIR] [--seed 0] [--clip storybook]

About twenty minutes on two CPU cores. Writes the weights and their MODEL_CARD.md.
"""

import argparse
import os
import sys
from pathlib import Path

# Before Prefect is imported: no telemetry, and time for a first start.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_maskformer import train_maskformer

WEIGHTS = Path(__file__).resolve().parents[1] / "ovseg" / "storybook" / "weights" / "maskformer"


@flow(name="train-maskformer", log_prints=True)
def train_maskformer_flow(
    out: Path = WEIGHTS, seed: int = 0, clip: str = "storybook"
) -> dict[str, float]:
    """Train, measure and publish the compact MaskFormer.

    Args:
        out: folder of the weights, replaced as a whole.
        seed: equal seeds on one machine give equal weights.
        clip: the CLIP whose text embeddings classify the queries.

    Returns:
        The metrics on validation scenes.
    """
    return train_maskformer(out, seed, clip)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    parser = argparse.ArgumentParser(description="Train the compact MaskFormer that ovseg ships.")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="replaced")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clip", default="storybook", help="storybook, a folder or ARCH/pretrained"
    )
    chosen = parser.parse_args()
    return print_metrics(lambda: train_maskformer_flow(chosen.out, chosen.seed, chosen.clip))


if __name__ == "__main__":
    sys.exit(main())
