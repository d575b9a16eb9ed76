"""Training the storybook's MaskFormers as Prefect tasks, without logic."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE


@task(name="train-maskformer", tags=["train"], cache_policy=NO_CACHE, persist_result=False)
def train_maskformer(out: Path | None, part: int, seed: int, clip: str) -> dict[str, float]:
    """Train the compact MaskFormer and write its card beside it."""
    from ovseg.pretraining.maskformer import build_maskformer

    logger = get_run_logger()

    def report(what: str, done: int, total: int) -> None:
        if done % 250 == 0 or done == total:
            logger.info("%s: %d of %d", what, done, total)

    return build_maskformer(out, part=part, seed=seed, clip=clip, progress=report)


@task(name="train-mask2former", tags=["train"], cache_policy=NO_CACHE, persist_result=False)
def train_mask2former(out: Path | None, part: int, seed: int) -> dict[str, float]:
    """Train the small Mask2Former and write its card beside it."""
    from ovseg.pretraining.mask2former import build_mask2former

    logger = get_run_logger()

    def report(what: str, done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            logger.info("%s: %d of %d", what, done, total)

    return build_mask2former(out, part=part, seed=seed, progress=report)
