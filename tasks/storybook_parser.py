"""Training the weights the repository ships, as Prefect tasks: one a model, without logic."""

import time
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE


@task(name="train-parser", tags=["train"], cache_policy=NO_CACHE, persist_result=False)
def train_parser(treebank: Path, out: Path, seed: int) -> dict[str, float]:
    """Train the English noun tagger and write its card beside it."""
    from ovseg.pretraining import parser, parser_files

    started = time.monotonic()
    metrics = parser.train_parser(treebank, out, seed=seed, progress=get_run_logger().info)
    seconds = time.monotonic() - started
    parser_files.write_parser_card(
        out, treebank=treebank, seed=seed, seconds=seconds, metrics=metrics
    )
    return metrics
