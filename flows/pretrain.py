"""Rebuild a model shipped with the repository, or train one like it.

    python -m flows.pretrain clip [--seed 0] [--out DIR] [--work DIR]
    python -m flows.pretrain conv-clip [--device cuda]
    python -m flows.pretrain maskformer [--split 0] [--clip storybook]
    python -m flows.pretrain mask2former [--split 0]
    python -m flows.pretrain parser --treebank ud_english_ewt

Minutes to half an hour on a CPU; the cards say how long each took. Writes the weights and their
MODEL_CARD.md; rendered images stay in the work folder for the next run.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import of_pretraining

if __name__ == "__main__":
    of_pretraining()  # before Prefect is imported, so that errors appear at once

from prefect import flow

from tasks.console import print_metrics
from tasks.pretraining import train

Model = Literal["clip", "conv-clip", "maskformer", "mask2former", "parser"]


@flow(name="pretrain", flow_run_name="pretrain {model}", log_prints=True)
def pretrain(
    model: Model,
    out: Path | None = None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Train, measure and publish one of the shipped models.

    Args:
        model: its name.
        out: folder of the weights, replaced as a whole; defaults to the shipped one.
        seed: equal seeds on one machine give equal weights.
        options: further options of the model, as on the command line.

    Returns:
        Its metrics on data it was not trained on.
    """
    return train(model, out, seed, **(options or {}))


def main() -> int:
    """Run the flow from the command line; return 2 for errors that the user can fix."""
    options = vars(of_pretraining())
    model, out, seed = (options.pop(name) for name in ("model", "out", "seed"))
    return print_metrics(lambda: pretrain(model, out, seed, options))


if __name__ == "__main__":
    sys.exit(main())
