"""The stage that adapts CLIP to masked regions: from a curated selection to a checkpoint.

The paper's default is two phases, each a run of this stage: the image encoder is fine-tuned with
the text encoder frozen, then mask prompts are tuned with all of CLIP frozen (OVSeg, CVPR 2023,
sections 3.2 and 3.3). A killed run resumes from its last state and reaches the same losses.

    tuned = run_stage(FINETUNE, FinetuneConfig(), {"curated": curated, "table": pairs}, root)
    prompts = FinetuneConfig(trains="mask_prompts", learning_rate=2e-2)
    both = run_stage(
        FINETUNE, prompts, {"curated": curated, "table": pairs, "checkpoint": tuned}, root
    )
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import write_parquet
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.mask_tokens import check_tower
from ovseg.models.clip.save import save_clip
from ovseg.models.devices import clip_name, resolve_device
from ovseg.models.texts.templates import text_embeddings
from ovseg.stages import schema
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.run import STATE, too_many_bad
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.training.clip.batches import steps_per_epoch
from ovseg.training.clip.mapped import MappedRegions
from ovseg.training.clip.methods import method
from ovseg.training.clip.pairs import ImagePairs, read_pairs
from ovseg.training.clip.regions import PairRegions, RegionCut, reason_counts
from ovseg.training.clip.snapshots import copy_snapshots, snapshot_steps
from ovseg.training.clip.streamed import StreamedRegions
from ovseg.training.clip.trainer import Trainer, train
from ovseg.training.state import LogRow

LOG_FILE = "training_log.parquet"
REGIONS = "regions"
"""Folder in the root of all results for regions that phases and runs share: a cache."""


class Finetune(Stage[FinetuneConfig]):
    """One phase of adapting CLIP.

    Inputs are `curated`, the `table` it was selected from (`table/...` for further ones) and
    optionally the `checkpoint` to start from.
    """

    name = "checkpoints"
    suffix = ""

    def plan(self, config: FinetuneConfig, inputs: Inputs) -> ShardPlan:
        """Return one shard that counts the optimizer steps of all epochs."""
        curated = inputs["curated"]
        steps = config.epochs * steps_per_epoch(curated.rows, config.batch_size)
        return ShardPlan.single(curated.content_digest, steps)

    def weights(self, config: FinetuneConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digest of the CLIP it starts from, unless that is an input."""
        return {} if "checkpoint" in inputs else {"clip": clip_digest(config.clip)}

    def write(
        self,
        config: FinetuneConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Train and write the checkpoint; until then `state` holds what a killed run needs."""
        tables = [table for role, table in inputs.items() if role.startswith("table")]
        pairs = read_pairs(inputs["curated"], tables)
        nouns, numbers_n = number_nouns(pairs["noun"].to_pylist())
        model = starting_clip(clip_name(config.clip, inputs), config, nouns)
        cut = RegionCut(
            size=config.image_size or model.image_size,
            mean=model.pixel_mean,
            std=model.pixel_std,
            region=config.region,
            background=config.background,
        )
        by_image = ImagePairs(pairs, config.image_root or Path())
        with closing(training_regions(by_image, cut, config, root=target.parents[2])) as regions:
            return self._trained(config, model, regions, nouns, numbers_n, target, progress)

    def _trained(
        self,
        config: FinetuneConfig,
        model: MaskAdaptedCLIP,
        regions: PairRegions,
        nouns: Sequence[str],
        numbers_n: torch.Tensor,
        target: Path,
        progress: Progress,
    ) -> Output:
        """Train on regions with the nouns of these numbers, and write the checkpoint."""
        stats = _survey(regions, config)
        trainer = Trainer(
            model,
            text_embeddings(model, nouns, templates=[config.template]),
            nouns=nouns,
            config=config,
            total_steps=config.epochs * steps_per_epoch(len(regions.usable), config.batch_size),
        )
        # the stage's folder covers the rest; images are outside its digest
        identity = digest_json([target.parent.name, regions.usable.tolist()])
        state_folder = target.parent / STATE  # removed when the stage finishes
        snapshots = state_folder / f"snapshots-{identity[:16]}"  # ignores those of other trainings
        log = train(
            trainer,
            regions,
            numbers_n,
            identity=identity,
            state_folder=state_folder,
            snapshot_folder=snapshots,
            progress=progress,
        )
        save_clip(model, target)
        write_log(log, target / LOG_FILE)
        copy_snapshots(snapshots, target, snapshot_steps(trainer.total_steps, config.snapshots))
        usable_n = numbers_n[regions.usable]
        return Output(
            rows=len(log),
            stats={
                **stats,
                "pairs": len(usable_n),
                "nouns": len(set(usable_n.tolist())),
                "steps": len(log),
                "first_loss": log[0][2],
                "last_loss": log[-1][2],
                "trained_parameters": sum(p.numel() for p in trainer.parameters.values()),
            },
        )


FINETUNE = Finetune()


def training_regions(
    pairs: ImagePairs, cut: RegionCut, config: FinetuneConfig, *, root: Path
) -> PairRegions:
    """Return the regions of a training set as `arms.input` says.

    Args:
        pairs: the training set by image.
        cut: how regions are cut out.
        config: the phase's configuration.
        root: folder of all results.

    Raises:
        OvsegError: if the regions do not fit on the disk.
    """
    folder, workers = root / REGIONS, config.decode_workers
    if config.input == "mapped":
        return MappedRegions(pairs, cut, folder=folder, workers=workers)
    return StreamedRegions(pairs, cut, window=config.window, folder=folder, workers=workers)


def starting_clip(name: str, config: FinetuneConfig, nouns: Sequence[str] = ()) -> MaskAdaptedCLIP:
    """Load the CLIP a phase starts from, with the parameters its method trains.

    Args:
        name: as in `load_clip`.
        config: the phase's configuration.
        nouns: nouns of the training set, for a method that trains parameters per noun.

    Raises:
        OvsegError: if there is no such CLIP, it has too few blocks for the prompts, or the regions
            do not fit it.
    """
    model = load_clip(name, device=resolve_device(config.device))
    if config.embedder == "mask_tokens":
        check_tower(model)
        if config.region != "image" or config.image_size % model.patch_size:
            raise OvsegError(
                "mask tokens are trained on whole images: set arms.region=image, and"
                f" arms.image_size to a multiple of {model.patch_size}"
            )
        if method(config.trains).prompts_regions:
            raise OvsegError(
                f"mask tokens do not use the prompts of {config.trains}, which would learn"
                " nothing: choose arms.embedder=crops, or arms.trains=image_encoder"
            )
    elif config.image_size:
        raise OvsegError("arms.image_size is only for arms.embedder=mask_tokens: remove it")
    method(config.trains).prepare(model, config, nouns)
    if config.initial_logit_scale is not None:
        with torch.no_grad():
            model.logit_scale.fill_(math.log(config.initial_logit_scale))
    return model


def number_nouns(nouns: list[str]) -> tuple[list[str], torch.Tensor]:
    """Return the distinct nouns in alphabetical order, and the index of each input noun in them."""
    distinct = sorted(set(nouns))
    number = {noun: index for index, noun in enumerate(distinct)}
    return distinct, torch.tensor([number[noun] for noun in nouns], dtype=torch.int64)


def write_log(log: list[LogRow], path: Path) -> None:
    """Write `schema.TRAINING_LOG`; `logit_scale` is the factor in the step's loss, not its log."""
    names = schema.TRAINING_LOG.names
    rows = [dict(zip(names, row)) for row in log]
    write_parquet(schema.rows_to_table(rows, schema.TRAINING_LOG), path)


def _survey(regions: PairRegions, config: FinetuneConfig) -> dict[str, object]:
    """Count the unusable rows, and stop before training if there are too many."""
    bad, total = len(regions.unusable), len(regions)
    first = None
    if bad:
        row = min(regions.unusable)
        # relative: a manifest must not contain the location of the images
        first = f"{regions.pairs.paths[row]}: {regions.unusable[row]}"
    if bad == total or bad > config.max_bad_fraction * total:
        where = f"{first} (of images in {regions.pairs.image_root})"
        raise too_many_bad("checkpoints", "pairs", bad, total, config, where)
    return {
        "n": total,
        "bad": bad,
        "bad_reasons": reason_counts(regions.unusable.values()),
        "first_bad": first,
    }
