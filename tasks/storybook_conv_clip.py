"""Training the storybook's convolutional CLIP as a Prefect task, without logic."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE


@task(name="train-conv-clip", tags=["train"], cache_policy=NO_CACHE, persist_result=False)
def train_conv_clip(out: Path, seed: int, work: Path, device: str) -> dict[str, float]:
    """Render, train and evaluate the compact convolutional CLIP and write its card beside it."""
    from ovseg.pretraining.conv_clip import pretrain_conv_clip

    return pretrain_conv_clip(
        out, cache_dir=work, seed=seed, device=device, log=get_run_logger().info
    )
