"""Training of the shipped weights, as a thin Prefect task."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from ovseg.storybook.weights import PARSER


@task(
    name="pretrain",
    task_run_name="pretrain {model}",
    tags=["train"],
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train(model: str, out: Path | None, seed: int, **options: Any) -> dict[str, float]:
    """Train and measure one of the shipped models and write its card next to it.

    Args:
        model: a key of `MODELS`.
        out: folder of the weights; defaults to the shipped one.
        seed: equal seeds on one machine give equal weights.
        options: further options of the model.

    Returns:
        Its metrics on data it was not trained on.
    """
    return MODELS[model](out, seed, **options)


def _clip(
    out: Path | None, seed: int, *, work: Path = Path("runs/pretrain-clip")
) -> dict[str, float]:
    from ovseg.pretraining.clip import pretrain_clip

    return pretrain_clip(out, cache_dir=work, seed=seed, log=get_run_logger().info)


def _conv_clip(
    out: Path | None,
    seed: int,
    *,
    work: Path = Path("runs/pretrain-conv-clip"),
    device: str = "cpu",
) -> dict[str, float]:
    from ovseg.pretraining.conv_clip import pretrain_conv_clip

    log = get_run_logger().info
    return pretrain_conv_clip(out, cache_dir=work, seed=seed, device=device, log=log)


def _maskformer(
    out: Path | None, seed: int, *, split: int = 0, clip: str = "storybook"
) -> dict[str, float]:
    from ovseg.pretraining.maskformer import build_maskformer

    return build_maskformer(out, part=split, seed=seed, clip=clip, progress=_each(250))


def _mask2former(out: Path | None, seed: int, *, split: int = 0) -> dict[str, float]:
    from ovseg.pretraining.mask2former import build_mask2former

    return build_mask2former(out, part=split, seed=seed, progress=_each(100))


def _parser(out: Path | None, seed: int, *, treebank: Path) -> dict[str, float]:
    from ovseg.pretraining.parser import train_parser
    from ovseg.pretraining.parser_files import write_parser_card

    out, started = out or PARSER, time.monotonic()
    metrics = train_parser(treebank, out, seed=seed, progress=get_run_logger().info)
    seconds = time.monotonic() - started
    write_parser_card(out, treebank=treebank, seed=seed, seconds=seconds, metrics=metrics)
    return metrics


MODELS: dict[str, Callable[..., dict[str, float]]] = {
    "clip": _clip,
    "conv-clip": _conv_clip,
    "maskformer": _maskformer,
    "mask2former": _mask2former,
    "parser": _parser,
}
"""The training functions by model name."""


def _each(steps: int) -> Callable[[str, int, int], None]:
    """Return a progress callback that logs every n-th step, and the last."""
    logger = get_run_logger()

    def report(what: str, done: int, total: int) -> None:
        if done % steps == 0 or done == total:
            logger.info("%s: %d of %d", what, done, total)

    return report
