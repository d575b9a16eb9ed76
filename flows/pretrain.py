"""Rebuild a model that ships with the repository, or train one like it.

    python -m flows.pretrain clip [--seed 0] [--out DIR] [--work DIR]
    python -m flows.pretrain conv-clip [--device cuda]
    python -m flows.pretrain maskformer [--split 0] [--clip storybook]
    python -m flows.pretrain mask2former [--split 0]
    python -m flows.pretrain parser --treebank ud_english_ewt

Minutes to half an hour on a CPU; the cards say how long each took. Writes the weights and their
MODEL_CARD.md; rendered pictures stay in the work folder for the next run.
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # before Prefect is imported

from flows.arguments import of_pretraining

if __name__ == "__main__":
    of_pretraining()  # before Prefect is imported: what is wrong is said at once

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
    """Train, measure and publish one of the models that ship.

    Args:
        model: which.
        out: folder of the weights, replaced as a whole; the shipped one if empty.
        seed: equal seeds on one machine give equal weights.
        options: what the model takes besides, as the command's options say.

    Returns:
        Its metrics on data it was not trained on.
    """
    return train(model, out, seed, **(options or {}))


def main() -> int:
    """Run the flow from the command line; 2 where the user has something to mend."""
    options = vars(of_pretraining())
    model, out, seed = (options.pop(name) for name in ("model", "out", "seed"))
    return print_metrics(lambda: pretrain(model, out, seed, options))


if __name__ == "__main__":
    sys.exit(main())
