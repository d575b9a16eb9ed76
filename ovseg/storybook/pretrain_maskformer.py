"""The compact MaskFormer of the storybook: trained on seen categories only, from scratch, on a CPU.

    python -m flows.train_maskformer [--split 0] [--seed 0] [--out DIR]

Pixels of unseen categories are unlabelled: they take part in no mask loss, and queries that cover
them are not taught to be *non-object*. So they may be proposed, though no mask of theirs was shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.evaluation.metrics import Confusion, segmentation_scores
from ovseg.models.class_embedding import Architecture
from ovseg.models.clip import clip_digest, load_clip
from ovseg.models.maskformer import (
    InputSettings,
    OpenMaskFormer,
    load_maskformer,
    storybook_weights,
)
from ovseg.models.prompts import text_embeddings as embed_texts
from ovseg.storage import discard, publish, temporary_name
from ovseg.storybook.cards import NAME as CARD
from ovseg.storybook.cards import write_card
from ovseg.storybook.catalogue import BY_NAME, CATEGORIES, split
from ovseg.storybook.scenes import Scene, draw_scene
from ovseg.storybook.world import scene_seeds
from ovseg.training.augmentation import SegmentationSample
from ovseg.training.segmentation import SegmentationConfig, SegmentationReport, train_segmentation

SIZE = 160
TRAINING_SCENES = 3000
VALIDATION_SCENES = 120
UNLABELLED = 65535
TEMPLATES = "vild"

CONFIG = SegmentationConfig(
    architecture=Architecture(
        backbone="resnet",
        backbone_dim=32,
        depths=(1, 1, 2),
        heads=(),
        feature_dim=64,
        mask_dim=64,
        query_dim=96,
        queries=32,
        decoder_layers=4,
        decoder_heads=4,
        decoder_ffn=256,
        dropout=0.0,
        class_hidden_dim=256,
        embedding_dim=128,
    ),
    inputs=InputSettings(short_side=SIZE, max_side=4 * SIZE),
    steps=4500,
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.05,
    warmup_steps=100,
    warmup_factor=1e-3,
    clip_norm=1.0,
    crop=128,
    short_sides=(112, 128, 144, 160),
    max_side=4 * SIZE,
    ignore_unknown=True,
    spare_unknown=0.5,
    target_stride=4,
    half_weights=True,
    device="cpu",
)


def seen_names(part: int) -> list[str]:
    """Names of the categories whose masks split `part` lets be trained on, in catalogue order."""
    seen, _ = split(part)
    return [category.name for category in CATEGORIES if category.name in seen]


class SceneSamples(Sequence[SegmentationSample]):
    """Scenes as training samples: segments of the named categories; all else is unlabelled.

    Scenes are drawn once and kept as a picture and a map of segments, some 100 kB each.

    Args:
        seeds: one scene a seed.
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
        """Sample `index`: segments in scene order."""
        image, segment_map, labels = self._scenes[index]
        masks = segment_map == np.arange(1, len(labels) + 1)[:, None, None]
        return SegmentationSample(image, masks, labels, segment_map > 0)


# --------------------------------------------------------------------------------------
# Measuring


def measure(
    network: OpenMaskFormer,
    scenes: Iterable[Scene],
    text_embeddings: Tensor,
    *,
    seen: Sequence[str],
) -> dict[str, float]:
    """What the card reports, on scenes the network was not trained on.

    Args:
        network: the trained network.
        scenes: scenes with their segments.
        text_embeddings: (K, E) of all categories, in catalogue order.
        seen: names of the categories the network was trained on.

    Returns:
        For single segments and for the union of each category, seen and unseen, the recall (share
        of ground-truth masks that some proposal meets with IoU >= 0.5) and the mean of each mask's
        best IoU; mIoU of the network alone (`miou_union`, `miou_union_seen`, `miou_union_unseen`).
    """
    best: dict[str, list[float]] = {}
    confusion = Confusion(len(CATEGORIES), UNLABELLED)
    for scene in scenes:
        batch = network.propose([scene.image])
        masks = batch.mask_probabilities[0]
        proposed = (masks > 0.5).flatten(1).float()
        truths: dict[tuple[str, str, int], NDArray[np.bool_]] = {}
        truth_map = np.full(scene.image.shape[:2], UNLABELLED, dtype=np.uint16)
        for segment in scene.segments:
            name = segment.category.name
            truths["segment", name, segment.id] = segment.mask
            union = truths.get(("category", name, 0), np.zeros_like(segment.mask))
            truths["category", name, 0] = union | segment.mask
            truth_map[segment.mask] = segment.category.id - 1
        true = torch.from_numpy(np.stack(list(truths.values()))).flatten(1).float()
        overlap = proposed @ true.T
        union_area = proposed.sum(1)[:, None] + true.sum(1)[None] - overlap
        found = (overlap / union_area.clamp(min=1)).amax(0).tolist()
        for (grain, name, _), iou in zip(truths, found):
            part = "seen" if name in seen else "unseen"
            best.setdefault(f"{part} {grain}", []).append(iou)
        confusion.update(
            truth_map, _semantic_map(network, batch.class_embeddings, masks, text_embeddings)
        )
    metrics: dict[str, float] = {}
    for key in sorted(best):
        metrics[f"{key}/recall at IoU 0.5"] = float(np.mean(np.array(best[key]) >= 0.5))
        metrics[f"{key}/mean best IoU"] = float(np.mean(best[key]))
    indices = [category.id - 1 for category in CATEGORIES if category.name in seen]
    scores = segmentation_scores(confusion.class_counts(), seen=indices)
    for part in ("", "_seen", "_unseen"):
        metrics[f"miou_union{part}"] = scores[f"miou_union{part}"]
    return metrics


@torch.inference_mode()
def _semantic_map(
    network: OpenMaskFormer,
    class_embeddings: list[Tensor] | None,
    masks: Tensor,
    text_embeddings: Tensor,
) -> NDArray[np.int64]:
    """Class of every pixel by the MaskFormer branch alone: argmax of sum_q p(q, c) m(q, pixel)."""
    assert class_embeddings is not None
    logits = network.class_logits(class_embeddings[0], text_embeddings)
    probabilities = logits.softmax(-1)[:, :-1]
    scores = torch.einsum("qc,qhw->chw", probabilities, masks)
    labels: NDArray[np.int64] = scores.argmax(0).cpu().numpy()
    return labels


def validation_scenes(count: int = VALIDATION_SCENES) -> list[Scene]:
    """The first scenes of the validation range."""
    return [draw_scene(seed, size=SIZE) for seed in scene_seeds("val", count)]


# --------------------------------------------------------------------------------------
# The one command


def pretrain_maskformer(
    out_dir: Path,
    text_embeddings: Tensor,
    *,
    part: int = 0,
    config: SegmentationConfig = CONFIG,
    scenes: int = TRAINING_SCENES,
    validation: int = VALIDATION_SCENES,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[SegmentationReport, dict[str, float]]:
    """Draw scenes, train, write the weights and measure them.

    Args:
        out_dir: where the weights go.
        text_embeddings: (K, E) of all categories, in catalogue order; only the rows of seen ones
            are trained on and stored.
        part: which split of the categories into seen and unseen.
        config: the recipe.
        scenes: how many training scenes.
        validation: how many scenes are measured.
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
    report = train_segmentation(
        config,
        samples,
        text_embeddings[[BY_NAME[name].id - 1 for name in names]],
        names,
        out_dir,
        progress=lambda done, _: tell("steps", done, config.steps),
    )
    network = load_maskformer(str(out_dir))
    assert isinstance(network, OpenMaskFormer)
    return report, measure(network, validation_scenes(validation), text_embeddings, seen=names)


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
        out: the folder, replaced as a whole once everything is done; the split's own if empty.
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
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_name(out)
    try:
        report, metrics = pretrain_maskformer(
            folder, text, part=part, config=config, progress=progress
        )
        metrics["parameters"] = report.parameters
        metrics["megabytes"] = (folder / "model.safetensors").stat().st_size / 1e6
        write_card(
            folder / CARD,
            title=f"MaskFormer of the storybook, split {part}",
            purpose="A small MaskFormer with a class-embedding head: it proposes masks in storybook"
            " scenes and compares them with text embeddings of the storybook's CLIP. Part of a"
            " miniature that shows the machinery working.",
            command=f"python -m flows.train_maskformer --split {part} --seed {seed}",
            seed=seed,
            seconds=time.monotonic() - start,
            metrics=metrics,
            metrics_note=f"On {VALIDATION_SCENES} validation scenes, no post-processing. Recall is"
            " blind to classes, over all queries, for single segments and for the union of a"
            " category's segments; mIoU is that of the MaskFormer branch alone over all categories"
            " in ground truth or prediction. Unseen categories had no masks in training.",
            data=f"{TRAINING_SCENES} procedural scenes (part *pretrain*, {SIZE} pixels),"
            f" {config.steps} steps of {config.batch_size} crops; masks of the"
            f" {len(seen_names(part))} seen categories only (split {part}). Text"
            f" embeddings: CLIP {clip_digest(clip)}, templates *{TEMPLATES}*.",
            licence="Apache-2.0, as the repository; no external data or weights went in.",
            limits="Knows only storybook scenes. Useless on photographs; its numbers are never set"
            " beside published ones.",
            packages=("torch", "transformers", "numpy"),
        )
        publish(folder, out)
    finally:
        discard(folder)
    return metrics
