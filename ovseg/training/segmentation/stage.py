"""The stage that trains a MaskFormer, or pixel embeddings, on a labelled folder.

    python -m flows.train_segmentation --data FOLDER --clip NAME --out DIR

The payload is the folder that `load_maskformer` or `load_pixels` reads, with the training log. A
killed run resumes from its last state and reaches the same weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ovseg.config.base import Config, execution
from ovseg.config.registry import READERS, TEMPLATES
from ovseg.data.benchmarks.benchmark import Benchmark, load_benchmark, only_classes
from ovseg.errors import OvsegError
from ovseg.files.access import check_replaceable, list_files
from ovseg.files.digests import digest_json, known_sha256
from ovseg.files.locations import LocalPath, ModelName
from ovseg.files.parquet_files import write_parquet
from ovseg.files.publish import published
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.devices import resolve_device
from ovseg.models.maskformer.load import maskformer_digest
from ovseg.models.texts.templates import text_embeddings
from ovseg.stages import schema
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.run import STATE
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.training.segmentation.recipes import SegmentationConfig
from ovseg.training.segmentation.samples import LabelledSamples
from ovseg.training.segmentation.trainer import Continuation, train_segmentation

LOG_FILE = "training_log.parquet"


class LabelledTrainingConfig(Config):
    """A labelled folder, the CLIP whose texts name its classes, and a recipe."""

    root: LocalPath = execution(Path(), "folder of the labelled images")
    layout: Annotated[str, READERS] = Field(
        "prepared", description="name of a benchmark that is read as published, or prepared"
    )
    limit: int | None = Field(None, ge=1, description="the first n images by id, for trials")
    classes: tuple[str, ...] = Field(
        (), description="classes to train on; pixels of others are unlabelled. Defaults to all"
    )
    clip: ModelName = "storybook"
    templates: Annotated[str, TEMPLATES] = Field(
        "vild", description="template set of the class names"
    )
    recipe: SegmentationConfig = SegmentationConfig()

    @property
    def device(self) -> str:
        """The training device."""
        return self.recipe.device


class SegmentationTraining(Stage[LabelledTrainingConfig]):
    """Trains on one device; its only inputs are the files its configuration names."""

    name = "maskformers"
    suffix = ""

    def plan(self, config: LabelledTrainingConfig, inputs: Inputs) -> ShardPlan:
        """Return one shard that counts the steps and digests the images and label maps."""
        folder = _open(config)
        digest = digest_json([folder.classes, folder.contents()])
        return ShardPlan.single(digest, config.recipe.steps)

    def weights(self, config: LabelledTrainingConfig, inputs: Inputs) -> dict[str, str]:
        """Return the digests of the CLIP and the starting weights."""
        weights = {"clip": clip_digest(config.clip)}
        if (file := config.recipe.backbone_file) is not None:
            try:
                weights["backbone"] = known_sha256(file)
            except OSError as error:
                raise OvsegError(f"{file}: the backbone's file cannot be read ({error})") from error
        if config.recipe.start:
            weights["start"] = maskformer_digest(config.recipe.start)
        return weights

    def write(
        self,
        config: LabelledTrainingConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Check all labels, train, and write the network with its log."""
        samples = LabelledSamples(_open(config))
        survey = samples.survey(workers=config.recipe.workers)
        classes = samples.benchmark.classes
        clip = load_clip(config.clip, device=resolve_device(config.recipe.device))
        texts = text_embeddings(clip, classes, templates=config.templates).float().cpu()
        del clip  # frees its memory for the training
        width = {"embedding_dim": texts.shape[1]}
        architecture = config.recipe.architecture.model_copy(update=width)
        reached = 0

        def tell(done: int, loss: float) -> None:
            nonlocal reached
            progress(done - reached)  # the first call includes an earlier attempt's steps
            reached = done

        state = target.parent / STATE  # removed when the stage finishes
        report = train_segmentation(
            config.recipe.model_copy(update={"architecture": architecture}),
            samples,
            texts,
            classes,
            target,
            progress=tell,
            # the stage's folder covers data, weights, settings and code
            continuation=Continuation(folder=state, identity=target.parent.name),
        )
        if reached < len(report.log):  # an earlier attempt completed all steps
            progress(len(report.log) - reached)
        rows = [dict(zip(schema.TRAINING_LOG.names, row)) for row in report.log]
        write_parquet(schema.rows_to_table(rows, schema.TRAINING_LOG), target / LOG_FILE)
        stats: dict[str, Any] = {
            "images": survey.images,
            "unlabelled": survey.unlabelled,
            "classes": len(classes),
            "classes_met": int((survey.class_images > 0).sum()),
            "steps": len(report.log),
            "first_loss": report.losses[0],
            "last_loss": report.losses[-1],
            "last_terms": report.terms,
            "parameters": report.parameters,
        }
        return Output(rows=len(report.log), stats=stats)


SEGMENTATION = SegmentationTraining()


def _open(config: LabelledTrainingConfig) -> Benchmark:
    folder = load_benchmark(config.layout, config.root, limit=config.limit)
    return only_classes(folder, config.classes)


MADE_BY = "flows.train_segmentation"


def hand_out(trained: Manifest, out: Path) -> None:
    """Copy a trained network to the requested folder, atomically.

    Args:
        trained: the stage's manifest.
        out: the folder, replaced as a whole.

    Raises:
        OvsegError: as in `check_out`, or if it cannot be written.
    """
    check_out(out)
    with published(out) as temporary:
        # only the files, not their modes, which follow the umask
        shutil.copytree(trained.payload(), temporary, copy_function=shutil.copyfile)
        list_files(temporary, MADE_BY)


def check_out(out: Path) -> None:
    """Reject a folder that this training did not make, because it would be replaced.

    Raises:
        OvsegError: see `ovseg.files.access.check_replaceable`.
    """
    check_replaceable(out, MADE_BY)
