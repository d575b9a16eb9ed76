"""A small Mask2Former of the storybook: closed vocabulary, trained on seen categories only.

    python -m flows.train_mask2former [--split 0] [--seed 0] [--out DIR]

Loss, matching and architecture are those of `transformers`. The backbone begins with that of the
compact MaskFormer of the same split, which saw the same masks: what is trained in a few minutes on
two CPU cores is the deformable pixel decoder and the masked-attention decoder. Pixels of unseen
categories count as background here, as `transformers`' loss knows no unlabelled ones.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, ResNetConfig

from ovseg.config import Config
from ovseg.errors import OvsegError
from ovseg.models.maskformer import OpenMaskFormer, load_maskformer
from ovseg.models.pixels import InputSettings, pad_batch
# from ovseg.models.storybook_weights import storybook_mask2former, storybook_maskformer
from ovseg.storage import discard, publish, temporary_name
from ovseg.storybook.cards import NAME as CARD
from ovseg.storybook.cards import write_card
# from ovseg.storybook.measure_proposals import measure_proposals
from ovseg.storybook.pretrain_maskformer import SceneSamples, seen_names
from ovseg.storybook.world import scene_seeds
from ovseg.training.augmentation import SegmentationSample, merge_categories
from ovseg.training.batches import augmented_batches
from ovseg.training.recipes import COMPACT_CONFIG
from ovseg.training.segmentation import warmup_poly

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
        samples: labelled images, their labels counting `names`.
        names: K of the classes.
        out_dir: folder to write.
        backbone: of which the weights are taken to begin with; None for random ones.
        progress: called with (steps done, loss).

    Returns:
        The loss of every step.

    Raises:
        OvsegError: the loss diverges.
    """
    # ovseg's own pixels and batches: of the compact recipe
    views = COMPACT_CONFIG.model_copy(
        update={name: getattr(recipe, name) for name in ("steps", "batch_size", "seed")}
    )
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Mask2FormerForUniversalSegmentation(architecture(recipe, names))
        encoder = network.model.pixel_level_module.encoder
        if backbone is not None:
            encoder.load_state_dict(backbone.state_dict())
        inside = {id(parameter) for parameter in encoder.parameters()}
        rate = recipe.learning_rate
        groups = [
            {"params": [p for p in network.parameters() if (id(p) in inside) == own], "lr": of}
            for own, of in ((False, rate), (True, rate * recipe.backbone_multiplier))
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        first = [group["lr"] for group in optimizer.param_groups]
        network.train()
        for step, batch in enumerate(augmented_batches(views, samples)):
            factor = warmup_poly(
                step,
                steps=recipe.steps,
                warmup_steps=recipe.warmup_steps,
                warmup_factor=1e-3,
                power=0.9,
            )
            for group, own in zip(optimizer.param_groups, first, strict=True):
                group["lr"] = own * factor
            merged = [merge_categories(sample) for sample in batch]
            loss = network(
                pixel_values=pad_batch([s.image for s in merged], INPUTS.mean, INPUTS.std),
                mask_labels=[torch.from_numpy(s.masks).float() for s in merged],
                class_labels=[torch.from_numpy(s.labels) for s in merged],
            ).loss
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise OvsegError(f"the loss is {losses[-1]} at step {step}; lower learning_rate")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
            optimizer.step()
            if progress is not None:
                progress(step + 1, losses[-1])
    network.eval().half().save_pretrained(out_dir)
    statistics = {
        "image_mean": [value / 255 for value in INPUTS.mean],
        "image_std": [value / 255 for value in INPUTS.std],
    }
    (out_dir / "preprocessor_config.json").write_text(json.dumps(statistics, indent=2) + "\n")
    return losses
