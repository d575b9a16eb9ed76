"""A small Mask2Former of the storybook: closed vocabulary, trained on seen categories only.

    python -m flows.pretrain mask2former [--split 0] [--seed 0] [--out DIR]

Loss, matching and architecture are those of `transformers`. The backbone starts from that of the
compact MaskFormer of the same split, which saw the same masks; the deformable pixel decoder and the
masked-attention decoder are trained in a few minutes on two CPU cores. Pixels of unseen categories
count as background here, because the loss of `transformers` has no unlabelled pixels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files.publish import published
from ovseg.models.maskformer.load import load_maskformer
from ovseg.models.maskformer.proposing import OpenMaskFormer
from ovseg.models.preprocessing import InputSettings, pad_batch
from ovseg.pretraining.cards import STORYBOOK_PROPOSALS, recall_note, write_card
from ovseg.pretraining.maskformer import SceneSamples, seen_names
from ovseg.pretraining.maskformer_scores import validation_scenes
from ovseg.pretraining.proposal_recall import measure_proposals
from ovseg.storybook.weights import MASK2FORMER_WEIGHTS
from ovseg.storybook.world import scene_seeds
from ovseg.training.loop import fit, parameter_groups, warmup_poly
from ovseg.training.segmentation.augmentation import SegmentationSample, merge_categories
from ovseg.training.segmentation.batches import augmented_batches
from ovseg.training.segmentation.recipes import COMPACT_CONFIG
from ovseg.training.segmentation.trainer import backbone_rate

TRAINING_SCENES = 2000
VALIDATION_SCENES = 40
INPUTS = InputSettings(short_side=160, max_side=640)


class Mask2FormerRecipe(Config):
    """Training of the storybook's Mask2Former."""

    steps: int = Field(900, ge=1)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    backbone_multiplier: float = Field(0.3, ge=0, description="learning rate of the backbone, x")
    weight_decay: float = Field(0.05, ge=0)
    warmup_steps: int = Field(50, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    width: int = Field(64, multiple_of=32, description="channels of both decoders")
    queries: int = Field(32, ge=1)
    encoder_layers: int = Field(1, ge=1, description="of the deformable pixel decoder")
    decoder_layers: int = Field(4, ge=2, description="one of them looks at the queries alone")
    points: int = Field(1024, ge=16, description="sampled of a mask for its loss")
    seed: int = 0


RECIPE = Mask2FormerRecipe()


def architecture(recipe: Mask2FormerRecipe, names: Sequence[str]) -> Mask2FormerConfig:
    """The network as a `transformers` configuration; three feature maps, strides 4, 8 and 16."""
    stages = ["stage1", "stage2", "stage3"]
    config = Mask2FormerConfig(
        backbone_config=ResNetConfig(
            embedding_size=COMPACT_CONFIG.architecture.backbone_dim,
            hidden_sizes=[COMPACT_CONFIG.architecture.backbone_dim * 2**i for i in range(3)],
            depths=list(COMPACT_CONFIG.architecture.depths),
            layer_type="basic",
            out_features=stages,
        ),
        feature_size=recipe.width,
        mask_feature_size=recipe.width,
        hidden_dim=recipe.width,
        encoder_layers=recipe.encoder_layers,
        encoder_feedforward_dim=2 * recipe.width,
        decoder_layers=recipe.decoder_layers,
        dim_feedforward=4 * recipe.width,
        num_attention_heads=4,
        num_queries=recipe.queries,
        feature_strides=[4, 8, 16],
        train_num_points=recipe.points,
    )
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    return config


def train_mask2former(
    recipe: Mask2FormerRecipe,
    samples: Sequence[SegmentationSample],
    names: Sequence[str],
    out_dir: Path,
    *,
    backbone: nn.Module | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train and write the folder that `load_maskformer` reads, as float16.

    Args:
        recipe: sizes, steps and rates.
        samples: labelled images; labels are indices into `names`.
        names: the K class names.
        out_dir: folder to write.
        backbone: the network whose weights the backbone starts from; defaults to random weights.
        progress: called with (steps done, loss).

    Returns:
        The loss of every step.

    Raises:
        OvsegError: if the loss diverges.
    """
    # pixels and batches are those of the compact recipe
    views = COMPACT_CONFIG.model_copy(
        update={name: getattr(recipe, name) for name in ("steps", "batch_size", "seed")}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Mask2FormerForUniversalSegmentation(architecture(recipe, names))
        encoder = network.model.pixel_level_module.encoder
        if backbone is not None:
            encoder.load_state_dict(backbone.state_dict())
        groups = parameter_groups(
            dict(network.named_parameters()),
            rate=backbone_rate(recipe.learning_rate, recipe.backbone_multiplier),
            decay=lambda *_: recipe.weight_decay,
        )

        def loss_of(batch: Sequence[SegmentationSample]) -> Tensor:
            merged = [merge_categories(sample) for sample in batch]
            loss: Tensor = network(
                pixel_values=pad_batch([s.image for s in merged], INPUTS.mean, INPUTS.std),
                mask_labels=[torch.from_numpy(s.masks).float() for s in merged],
                class_labels=[torch.from_numpy(s.labels) for s in merged],
            ).loss
            return loss

        network.train()
        losses = fit(
            augmented_batches(views, samples),
            loss_of,
            [torch.optim.AdamW(groups)],
            factor=partial(
                warmup_poly,
                steps=recipe.steps,
                warmup_steps=recipe.warmup_steps,
                warmup_factor=1e-3,
                power=0.9,
            ),
            clip=list(network.parameters()),
            clip_norm=recipe.clip_norm,
            progress=progress,
        )
    network.eval().half().save_pretrained(out_dir)
    statistics = {
        "image_mean": [value / 255 for value in INPUTS.mean],
        "image_std": [value / 255 for value in INPUTS.std],
    }
    (out_dir / "preprocessor_config.json").write_text(json.dumps(statistics, indent=2) + "\n")
    return losses


# --------------------------------------------------------------------------------------
# The one command


def build_mask2former(
    out: Path | None = None,
    *,
    part: int = 0,
    seed: int = 0,
    recipe: Mask2FormerRecipe = RECIPE,
    scenes: int = TRAINING_SCENES,
    validation: int = VALIDATION_SCENES,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, float]:
    """Rebuild the shipped folder: weights and card.

    Args:
        out: the folder, replaced as a whole at the end; defaults to the shipped one.
        part: which split of the categories into seen and unseen.
        seed: equal seeds on one machine give equal weights.
        recipe: of the training.
        scenes: number of training scenes.
        validation: number of validation scenes.
        progress: called with (what, done, of).

    Returns:
        The metrics on the card.

    Raises:
        OvsegError: if there is no compact MaskFormer of the split to start from, training diverges,
            or the shipped folder would be overwritten with another split.
    """
    if out is None and part:
        raise OvsegError("the shipped Mask2Former is of split 0: give --out for another")
    start = time.process_time()
    out = out or MASK2FORMER_WEIGHTS
    tell = progress or (lambda what, done, total: None)
    names = seen_names(part)
    first = load_maskformer(f"storybook-{part}")
    assert isinstance(first, OpenMaskFormer)
    samples = SceneSamples(
        scene_seeds("pretrain", scenes, seed=seed),
        names,
        progress=lambda done: tell("scenes", done, scenes),
    )
    with published(out) as folder:
        train_mask2former(
            recipe.model_copy(update={"seed": seed}),
            samples,
            names,
            folder,
            backbone=first.network.model.pixel_level_module.encoder,
            progress=lambda done, _: tell("steps", done, recipe.steps),
        )
        metrics = describe(
            folder,
            part=part,
            seed=seed,
            recipe=recipe,
            scenes=scenes,
            validation=validation,
            seconds=time.process_time() - start,
        )
    return metrics


def describe(
    folder: Path,
    *,
    part: int,
    seed: int,
    recipe: Mask2FormerRecipe,
    scenes: int,
    validation: int,
    seconds: float,
) -> dict[str, float]:
    """Measure stored weights and write the model card next to them.

    Args:
        folder: of the weights.
        part: which split of the categories into seen and unseen.
        seed: of the training.
        recipe: of the training.
        scenes: how many were trained on.
        validation: how many are measured.
        seconds: of processor time that the training took, all cores together.

    Returns:
        The metrics.
    """
    names = seen_names(part)
    network = load_maskformer(str(folder))
    metrics = measure_proposals(network, validation_scenes(validation), seen=names)
    del metrics["seconds"]  # depends on the machine
    metrics["parameters"] = sum(value.numel() for value in network.network.parameters())
    metrics["megabytes"] = (folder / "model.safetensors").stat().st_size / 1e6
    write_card(
        folder,
        title=f"Mask2Former of the storybook, split {part}",
        purpose="A small Mask2Former of a closed vocabulary: it proposes masks in storybook scenes."
        " Part of a miniature that shows the machinery working.",
        command=f"mask2former --split {part} --seed {seed}",
        seed=seed,
        seconds=seconds,
        metrics=metrics,
        metrics_note=recall_note(validation) + ". Unseen categories had no masks in training;"
        " their pixels were background.",
        data=f"{scenes} procedural scenes (part *pretrain*, 160 pixels), {recipe.steps} steps of"
        f" {recipe.batch_size} crops; masks of the {len(names)} seen categories only (split"
        f" {part}). The backbone began with that of the compact MaskFormer of the same split."
        " The duration is processor time, all cores together.",
        packages=("torch", "transformers", "numpy"),
        **STORYBOOK_PROPOSALS,
    )
    return metrics
