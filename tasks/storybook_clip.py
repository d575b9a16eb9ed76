"""Training the storybook's CLIP as a Prefect task, without logic."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE


@task(name="train-clip", tags=["train"], cache_policy=NO_CACHE, persist_result=False)
def train_clip(out: Path, seed: int, work: Path) -> dict[str, float]:
    """Render, train and evaluate the compact CLIP and write its card beside it."""
    from ovseg.pretraining.clip import pretrain_clip

    return pretrain_clip(out, cache_dir=work, seed=seed, log=get_run_logger().info)
