"""The stage that trains a MaskFormer, or pixel embeddings, on a labelled folder.

    python -m flows.train_segmentation --data FOLDER --clip NAME --out DIR

The payload is the folder that `load_maskformer`, or `load_pixels`, reads, with the log of its
training. A killed run goes on from its last state to the same weights.
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
from ovseg.files.publish import published, write_parquet
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
        (), description="those trained on; pixels of the others are not labelled. All where empty"
    )
    clip: ModelName = "storybook"
    templates: Annotated[str, TEMPLATES] = Field(
        "vild", description="template set of the class names"
    )
    recipe: SegmentationConfig = SegmentationConfig()

    @property
    def device(self) -> str:
        """Where it is trained."""
        return self.recipe.device


class SegmentationTraining(Stage[LabelledTrainingConfig]):
    """Trains on one device; it has no inputs but the files its configuration names."""

    name = "maskformers"
    suffix = ""

    def plan(self, config: LabelledTrainingConfig, inputs: Inputs) -> ShardPlan:
        """One shard; it counts the steps. The contents of images and label maps are in it."""
        folder = _open(config)
        digest = digest_json([folder.classes, folder.contents()])
        return ShardPlan.single(digest, config.recipe.steps)

    def weights(self, config: LabelledTrainingConfig, inputs: Inputs) -> dict[str, str]:
        """The CLIP, and what training starts from."""
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
        """Look at all labels, train, and write the network with its log."""
        samples = LabelledSamples(_open(config))
        survey = samples.survey(workers=config.recipe.workers)
        classes = samples.benchmark.classes
        clip = load_clip(config.clip, device=resolve_device(config.recipe.device))
        texts = text_embeddings(clip, classes, templates=config.templates).float().cpu()
        del clip  # its memory is better used by the training
        width = {"embedding_dim": texts.shape[1]}
        architecture = config.recipe.architecture.model_copy(update=width)
        reached = 0

        def tell(done: int, loss: float) -> None:
            nonlocal reached
            progress(done - reached)  # the first time also what an earlier attempt did
            reached = done

        state = target.parent / STATE  # whoever finishes the stage removes it
        report = train_segmentation(
            config.recipe.model_copy(update={"architecture": architecture}),
            samples,
            texts,
            classes,
            target,
            progress=tell,
            # the stage's folder stands for data, weights, settings and code
            continuation=Continuation(folder=state, identity=target.parent.name),
        )
        if reached < len(report.log):  # all its steps were done by an earlier attempt
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
    """Put a copy of a trained network where it was asked for, all at once.

    Args:
        trained: of the stage.
        out: the folder, replaced as a whole.

    Raises:
        OvsegError: as in `check_out`, or it cannot be written.
    """
    check_out(out)
    with published(out) as temporary:
        # the files alone, not their modes: those are the umask's
        shutil.copytree(trained.payload(), temporary, copy_function=shutil.copyfile)
        list_files(temporary, MADE_BY)


def check_out(out: Path) -> None:
    """Refuse a folder that this training did not make, as it is replaced as a whole.

    Raises:
        OvsegError: see `ovseg.files.access.check_replaceable`.
    """
    check_replaceable(out, MADE_BY)
