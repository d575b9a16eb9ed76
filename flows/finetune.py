"""Adapt CLIP to masked regions: a curation query over the pair table, then each arm's phases.

    ovseg finetune --preset storybook

Arms with the same first phase share it: a checkpoint is named by a digest of its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow

from flows.mine import mine_pairs
from ovseg.config.resolved import Preset, resolved
from ovseg.stages.manifest import Manifest
from tasks.catalog import publish_catalog
from tasks.mining import by_source, curate, with_contexts
from tasks.prefect_page import run_name
from tasks.progress import bars
from tasks.scoring import remember
from tasks.steps import step
from tasks.tracking.records import record_training
from tasks.tracking.tracked_run import track
from tasks.training import train_and_trace
from tasks.worlds import Drawn, draw


@step("finetune")
def train_arms(run: Drawn, tables: Sequence[Manifest] | None = None) -> dict[str, Manifest]:
    """Train every arm of a run on what its curation query selects.

    Args:
        run: its curation and arms are used.
        tables: published pair tables; mined first if there are none.

    Returns:
        The checkpoint's manifest by arm, without the arm that trains nothing.
    """
    config = run.config
    with track("finetune", root=config.root, uri=config.tracking.uri) as tracked, bars():
        pairs = tables or [mine_pairs(each)["table"] for each in by_source(run)]
        config = with_contexts(run.config)
        curated = curate(config, pairs)
        trained, curves = train_and_trace(config, curated, pairs)
        checkpoints = {arm: phases[-1] for arm, phases in trained.items() if phases}
        arms = {f"checkpoint/{arm}": manifest for arm, manifest in checkpoints.items()}
        traced = {f"curve/{arm}": made[-1] for arm, made in curves.items() if made}
        publish_catalog(config.root, {"curated": curated, **arms, **traced})
        memories = {
            arm: remember(config, config.serving, arm, checkpoint, pairs)
            for arm, checkpoint in checkpoints.items()
        }
        record_training(tracked, config, curated, trained, curves, memories)
    return checkpoints


@flow(name="finetuning", flow_run_name=run_name)
def finetune(
    preset: Preset = "storybook",
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Manifest]:
    """Mine the pairs of a preset, if missing, and train its arms.

    Args:
        preset: What to train.
        root: Folder of all results; defaults to the preset's own.
        captions: Captions file or folder, a path or URL; needs images; defaults to the preset's.
        images: Folder or URL of the images that the captions name; needs captions.
        seed: Seed of the training order and, in the storybook, of the choice of unseen classes.
        overrides: Settings to replace, by the dotted names that `ovseg settings` lists.

    Returns:
        The checkpoint's manifest by arm.
    """
    config = resolved(
        preset, root=root, captions=captions, images=images, seed=seed, overrides=overrides
    )
    with bars():
        return train_arms(draw(config))
