"""The whole chain: captions and images to pairs, adapted CLIPs and their benchmark.

    ovseg run --preset storybook

Run it again and nothing is computed twice: every stage is found by its digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.benchmark import benchmark
from flows.finetune import finetune
from flows.mine import mine
from flows.report import report
from ovseg.presets import configure
from tasks.progress import bars
from tasks.scoring import Summary
from tasks.stages import folders
from tasks.tracking import track


@flow(name="pipeline", flow_run_name="{preset}")
def pipeline(
    preset: str = "storybook",
    root: Path | None = None,
    captions: Path | None = None,
    images: Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> Summary:
    """Run a preset from end to end.

    Args:
        preset: storybook, paper or gated.
        root: folder of all results; the preset's own where empty.
        captions: COCO captions JSON; the embedded world where empty.
        images: folder of the images it names.
        overrides: dotted settings to replace, such as {"pairing.clip": "ViT-B-16/openai"}.

    Returns:
        The numbers a person reads first.
    """
    config = configure(preset, root=root, captions=captions, images=images, overrides=overrides)
    with track(preset, root=config.root, uri=config.tracking_uri) as tracked, bars():
        tracked.tags({"preset": preset, "mlflow.note.content": config.expect})
        tracked.params(config)
        mined = mine(config)
        checkpoints = finetune(config, mined["table"].folder)
        scored = benchmark(config, folders(checkpoints))
        summary = report(config, folders(mined), folders(checkpoints), folders(scored))
    return summary
