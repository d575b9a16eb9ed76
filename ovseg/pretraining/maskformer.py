"""The compact MaskFormer of the storybook: trained on seen categories only, from scratch, on a CPU.

    python -m flows.pretrain maskformer [--split 0] [--seed 0] [--out DIR]

Pixels of unseen categories are unlabelled: they are excluded from the mask losses, and queries that
cover them are not taught to be *non-object*. So they can be proposed although no mask of theirs was
seen. At the end the class head alone is trained on with smoothed labels, and is restricted to the
span of its texts (`ovseg.training.segmentation.class_head`): with 37 classes it would otherwise
give unseen classes no probability at all, or one of them nearly all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ovseg.files.publish import published
from ovseg.models.clip.load import clip_digest, load_clip
from ovseg.models.maskformer.load import load_maskformer, save_maskformer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.texts.templates import text_embeddings as embed_texts
from ovseg.pretraining.cards import STORYBOOK_PROPOSALS, recall_note, write_card
from ovseg.pretraining.maskformer_scores import SIZE, VALIDATION_SCENES, measure, validation_scenes
from ovseg.storybook.categories import BY_NAME, CATEGORIES, split
from ovseg.storybook.scenes import draw_scene
from ovseg.storybook.weights import storybook_weights
from ovseg.storybook.world import scene_seeds
from ovseg.training.segmentation.augmentation import SegmentationSample
from ovseg.training.segmentation.batches import augmented_batches
from ovseg.training.segmentation.class_head import keep_to_span, train_class_head
from ovseg.training.segmentation.criterion import LossWeights
from ovseg.training.segmentation.matching import MatchingCosts
from ovseg.training.segmentation.objectives import target_of
from ovseg.training.segmentation.recipes import COMPACT_CONFIG, SegmentationConfig
from ovseg.training.segmentation.trainer import SegmentationReport, train_segmentation

TRAINING_SCENES = 5000
TEMPLATES = "vild"

CONFIG = COMPACT_CONFIG
HEAD_STEPS = 600
HEAD_LEARNING_RATE = 5e-4
LABEL_SMOOTHING = 0.1


def seen_names(part: int) -> list[str]:
    """Return the categories whose masks split `part` may train on, in catalog order."""
    seen, _ = split(part)
    return [category.name for category in CATEGORIES if category.name in seen]


class SceneSamples(Sequence[SegmentationSample]):
    """Scenes as training samples: segments of the named categories; all else is unlabelled.

    Scenes are drawn once and kept as an image and a map of segments, some 100 kB each.

    Args:
        seeds: one per scene.
        names: the categories to label, in the order of the labels.
        size: side of a scene in pixels.
        progress: called with the number of scenes drawn.
    """

    def __init__(
        self,
        seeds: Iterable[int],
        names: Sequence[str],
        *,
        size: int = SIZE,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        label = {name: index for index, name in enumerate(names)}
        self._scenes: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]] = []
        for seed in seeds:
            scene = draw_scene(seed, size=size)
            known = [s for s in scene.segments if s.category.name in label]
            segment_map = np.zeros((size, size), dtype=np.uint8)
            for number, segment in enumerate(known, start=1):
                segment_map[segment.mask] = number
            labels = np.array([label[s.category.name] for s in known], dtype=np.int64)
            self._scenes.append((scene.image, segment_map, labels))
            if progress is not None:
                progress(len(self._scenes))

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> SegmentationSample:  # type: ignore[override]
        """Return sample `index`, with segments in scene order."""
        image, segment_map, labels = self._scenes[index]
        masks = segment_map == np.arange(1, len(labels) + 1)[:, None, None]
        return SegmentationSample(image, masks, labels, segment_map > 0)


# --------------------------------------------------------------------------------------
# The one command


def pretrain_maskformer(
    out_dir: Path,
    text_embeddings: Tensor,
    *,
    part: int = 0,
    config: SegmentationConfig = CONFIG,
    head_steps: int = HEAD_STEPS,
    scenes: int = TRAINING_SCENES,
    validation: int = VALIDATION_SCENES,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[SegmentationReport, dict[str, float]]:
    """Draw scenes, train, write the weights and measure them.

    Args:
        out_dir: where the weights go.
        text_embeddings: (K, E) of all categories, in catalog order; only the rows of seen ones are
            used and stored.
        part: which split of the categories into seen and unseen.
        config: the recipe.
        head_steps: steps of the class head at the end.
        scenes: number of training scenes.
        validation: number of validation scenes.
        progress: called with (what, done, of).

    Returns:
        The training's report and the metrics of `measure`.
    """
    names = seen_names(part)
    tell = progress or (lambda what, done, total: None)
    samples = SceneSamples(
        scene_seeds("pretrain", scenes, seed=config.seed),
        names,
        progress=lambda done: tell("scenes", done, scenes),
    )
    seen_embeddings = text_embeddings[[BY_NAME[name].id - 1 for name in names]]
    report = train_segmentation(
        config,
        samples,
        seen_embeddings,
        names,
        out_dir,
        progress=lambda done, _: tell("steps", done, config.steps),
    )
    smooth_class_head(
        out_dir,
        samples,
        seen_embeddings,
        names,
        config=config.model_copy(update={"steps": head_steps}),
    )
    network = load_maskformer(str(out_dir))
    assert isinstance(network, OpenMaskFormer)
    return report, measure(network, validation_scenes(validation), text_embeddings, seen=names)


def smooth_class_head(
    folder: Path,
    samples: Sequence[SegmentationSample],
    text_embeddings: Tensor,
    names: Sequence[str],
    *,
    config: SegmentationConfig,
) -> None:
    """Train a stored network's class head on with smoothed labels; store it, kept to its texts.

    Args:
        folder: weights as `train_segmentation` left them, rounding included.
        samples: the training scenes.
        text_embeddings: (K, E) of the classes that the labels index.
        names: K names.
        config: the recipe; its `steps` are those of the head.
    """
    stored = load_maskformer(str(folder))
    assert isinstance(stored, OpenMaskFormer)
    train_class_head(
        stored.network,
        # another seed, or the first batches of training would repeat
        augmented_batches(config.model_copy(update={"seed": config.seed + 1}), samples),
        text_embeddings,
        target_of=lambda sample: target_of(sample, config, text_embeddings.device),
        inputs=config.inputs,
        weights=LossWeights(
            non_object=config.non_object_weight,
            spare_unknown=config.spare_unknown,
            label_smoothing=LABEL_SMOOTHING,
        ),
        costs=MatchingCosts(mask=config.mask_weight, dice=config.dice_weight),
        learning_rate=HEAD_LEARNING_RATE,
        weight_decay=config.weight_decay,
        total_steps=config.steps,
    )
    keep_to_span(stored.network, text_embeddings)
    save_maskformer(
        stored.network,
        folder,
        inputs=config.inputs,
        class_names=names,
        text_embeddings=text_embeddings,
        half=config.half_weights,
    )


def build_maskformer(
    out: Path | None = None,
    *,
    part: int = 0,
    seed: int = 0,
    clip: str = "storybook",
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, float]:
    """Rebuild the shipped folder: weights, text embeddings of the seen categories, card.

    Args:
        out: the folder, replaced as a whole at the end; defaults to that of the split.
        part: which split of the categories into seen and unseen.
        seed: equal seeds on one machine give equal weights.
        clip: the CLIP whose text embeddings classify the queries.
        progress: called with (what, done, of).

    Returns:
        The metrics on the card.

    Raises:
        OvsegError: if the CLIP cannot be loaded or training diverges.
    """
    start = time.monotonic()
    out = out or storybook_weights(part)
    text = embed_texts(load_clip(clip), [c.name for c in CATEGORIES], templates=TEMPLATES).cpu()
    config = CONFIG.model_copy(update={"seed": seed})
    with published(out) as folder:
        report, metrics = pretrain_maskformer(
            folder, text, part=part, config=config, progress=progress
        )
        metrics["parameters"] = report.parameters
        metrics["megabytes"] = (folder / "model.safetensors").stat().st_size / 1e6
        describe(
            folder,
            metrics,
            part=part,
            seed=seed,
            clip=clip,
            seconds=time.monotonic() - start,
        )
    return metrics


def describe(
    folder: Path, metrics: dict[str, float], *, part: int, seed: int, clip: str, seconds: float
) -> None:
    """Write the model card next to the weights.

    Args:
        folder: of the weights.
        metrics: as measured on validation scenes.
        part: which split of the categories into seen and unseen.
        seed: of the training.
        clip: the CLIP whose text embeddings classify the queries.
        seconds: that the training took.
    """
    write_card(
        folder,
        title=f"MaskFormer of the storybook, split {part}",
        purpose="A small MaskFormer with a class-embedding head: it proposes masks in storybook"
        " scenes and compares them with text embeddings of the storybook's CLIP. Part of a"
        " miniature that shows the machinery working.",
        command=f"maskformer --split {part} --seed {seed}",
        seed=seed,
        seconds=seconds,
        metrics=metrics,
        metrics_note=recall_note(VALIDATION_SCENES)
        + "; mIoU is that of the MaskFormer branch alone over all categories in ground truth or"
        " prediction. Unseen categories had no masks in training.",
        data=f"{TRAINING_SCENES} procedural scenes (part *pretrain*, {SIZE} pixels),"
        f" {CONFIG.steps} steps of {CONFIG.batch_size} crops, then {HEAD_STEPS} of the"
        f" class head alone with label smoothing {LABEL_SMOOTHING}, its answers then projected"
        " onto the span of the texts; masks of the"
        f" {len(seen_names(part))} seen categories only (split {part}). Text"
        f" embeddings: CLIP {clip_digest(clip)}, templates *{TEMPLATES}*.",
        packages=("torch", "transformers", "numpy"),
        **STORYBOOK_PROPOSALS,
    )
