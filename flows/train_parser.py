"""Rebuild the English noun tagger that ships with the repository, from a treebank.

    python -m flows.train_parser --treebank ud_english_ewt [--out DIR] [--seed 0]

Minutes on one CPU core (the card has the time it took). Writes the pipeline and its MODEL_CARD.md.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import Arguments, folder, weights

WEIGHTS = Path(__file__).resolve().parents[1] / "ovseg" / "storybook" / "weights" / "parser"


def arguments() -> argparse.Namespace:
    """What the command line asks for; ends the program where it cannot be."""
    parser = Arguments(description="Train the English noun tagger that ovseg ships.")
    parser.add_argument(
        "--treebank", type=folder("--treebank"), required=True, help="folder with *-train.conllu"
    )
    parser.add_argument(
        "--out", type=weights("--out"), default=WEIGHTS, help="the shipped folder, or a new one"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    arguments()  # before Prefect is imported: what is wrong is said at once

from prefect import flow

from tasks.console import print_metrics
from tasks.storybook_parser import train_parser


@flow(name="train-parser", log_prints=True)
def train_parser_flow(treebank: Path, out: Path = WEIGHTS, seed: int = 0) -> dict[str, float]:
    """Train, evaluate and publish the parser.

    Args:
        treebank: folder of a Universal Dependencies treebank (train, dev and test part).
        out: folder the pipeline replaces.
        seed: equal seeds on one machine give equal weights.

    Returns:
        The metrics on the dev and test part.
    """
    return train_parser(treebank, out, seed)


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    chosen = arguments()
    return print_metrics(lambda: train_parser_flow(chosen.treebank, chosen.out, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())
