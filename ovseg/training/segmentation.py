"""Trains the class-embedding MaskFormer from masks and labels.

The defaults of `SegmentationConfig` are the paper's Swin-B recipe (COCO-Stuff, 120k iterations of
32 crops on 8 large GPUs); `ovseg.storybook.pretrain_maskformer` is the same at a laptop's scale.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ovseg.config import Config, execution
from ovseg.errors import OvsegError
from ovseg.models.class_embedding import Architecture, LayerOutput, OpenVocabularyMaskFormer
from ovseg.models.maskformer import save_maskformer
from ovseg.models.names import resolve_device
from ovseg.models.pixels import InputSettings, pad_batch
from ovseg.training.augmentation import (
    Augmentation,
    SegmentationSample,
    augment,
    merge_categories,
)
from ovseg.training.criterion import LossWeights, Prediction, criterion
from ovseg.training.matching import MatchingCosts, Target


class SegmentationConfig(Config):
    """Training of the class-embedding MaskFormer. Defaults: the paper's Swin-B + ViT-L/14."""

    architecture: Architecture = Architecture()
    inputs: InputSettings = InputSettings()
    steps: int = Field(120_000, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(6e-5, gt=0)
    weight_decay: float = Field(0.01, ge=0, description="not on norms, embeddings, position biases")
    backbone_multiplier: float = Field(1.0, gt=0, description="learning rate of the backbone, x")
    warmup_steps: int = Field(1500, ge=0)
    warmup_factor: float = Field(1e-6, gt=0, description="first learning rate, x")
    power: float = Field(0.9, gt=0, description="of the polynomial decay")
    clip_norm: float = Field(0.01, gt=0, description="largest gradient norm of the whole model")
    crop: int = Field(640, ge=32, multiple_of=32, description="side of the training crops, pixels")
    short_sides: tuple[int, ...] = tuple(64 * step for step in range(5, 21))
    max_side: int = 2560
    flip: bool = True
    colour_jitter: bool = True
    targets: Literal["category", "segment"] = Field(
        "category", description="one mask a class present (paper), or one a segment"
    )
    ignore_unknown: bool = Field(
        False, description="unlabelled pixels take no part in mask losses; paper: background"
    )
    spare_unknown: float | None = Field(
        None, description="share of unlabelled pixels that spares an unmatched query its class loss"
    )
    target_stride: int = Field(1, ge=1, description="masks are compared at 1/stride of the crop")
    non_object_weight: float = Field(0.1, ge=0)
    mask_weight: float = Field(20.0, ge=0)
    dice_weight: float = Field(1.0, ge=0)
    half_weights: bool = Field(False, description="store float16 weights")
    seed: int = 0
    device: str = execution("auto", "auto, cpu, cuda, cuda:1, mps")


@dataclass(frozen=True)
class SegmentationReport:
    """What a training did.

    Attributes:
        losses: weighted total of every step.
        terms: unweighted terms of the last layer, the mean of the last tenth of the steps.
        seconds: wall time.
        parameters: number of trained values.
    """

    losses: list[float]
    terms: dict[str, float]
    seconds: float
    parameters: int


def warmup_poly(
    step: int, *, steps: int, warmup_steps: int, warmup_factor: float, power: float
) -> float:
    """Factor on the learning rate at a step counted from 0: linear warm-up times (1 - t)^power."""
    warm = 1.0
    if step < warmup_steps:
        progress = step / warmup_steps
        warm = warmup_factor * (1 - progress) + progress
    return float(warm * (1 - step / steps) ** power)


def parameter_groups(network: nn.Module, config: SegmentationConfig) -> list[dict[str, object]]:
    """AdamW groups: the backbone's own rate, no decay on norms, embeddings and position biases."""
    undecayed: set[str] = set()
    norms = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
    for prefix, module in network.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, norms) or name == "relative_position_bias_table":
                undecayed.add(f"{prefix}.{name}")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        backbone = name.startswith("model.pixel_level_module.encoder.")
        rate = config.learning_rate * (config.backbone_multiplier if backbone else 1.0)
        decay = 0.0 if name in undecayed else config.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def train_segmentation(
    config: SegmentationConfig,
    samples: Sequence[SegmentationSample],
    text_embeddings: Tensor,
    class_names: Sequence[str],
    out_dir: Path,
    *,
    progress: Callable[[int, float], None] | None = None,
) -> SegmentationReport:
    """Train and write the folder that `load_maskformer` reads.

    Args:
        config: recipe; the architecture's `embedding_dim` must be the text embeddings' width.
        samples: labelled images; drawn in a new random order each pass.
        text_embeddings: (K, E) float, one row a class.
        class_names: K names, stored beside the weights.
        out_dir: folder to write.
        progress: called with (steps done, loss) after every step.

    Returns:
        Losses, duration and size.

    Raises:
        OvsegError: if there are no samples, the text embeddings do not fit, or the loss diverges.
    """
    if not len(samples):
        raise OvsegError("there are no labelled images to train on; check the data set's folder")
    if text_embeddings.shape != (len(class_names), config.architecture.embedding_dim):
        raise OvsegError(
            f"text embeddings {tuple(text_embeddings.shape)} do not fit {len(class_names)} classes"
            f" of width {config.architecture.embedding_dim}; set architecture.embedding_dim"
        )
    start = time.monotonic()
    device = resolve_device(config.device)
    with torch.random.fork_rng(devices=None if device.startswith("cuda") else []):
        torch.manual_seed(config.seed)
        network = OpenVocabularyMaskFormer(config.architecture).to(device)
        losses, terms = _fit(config, network, samples, text_embeddings.to(device), progress)
    save_maskformer(
        network,
        out_dir,
        inputs=config.inputs,
        class_names=class_names,
        text_embeddings=text_embeddings,
        half=config.half_weights,
    )
    return SegmentationReport(
        losses=losses,
        terms=terms,
        seconds=time.monotonic() - start,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def _fit(
    config: SegmentationConfig,
    network: OpenVocabularyMaskFormer,
    samples: Sequence[SegmentationSample],
    text_embeddings: Tensor,
    progress: Callable[[int, float], None] | None,
) -> tuple[list[float], dict[str, float]]:
    network.train()
    optimizer = torch.optim.AdamW(parameter_groups(network, config))
    weights = LossWeights(
        mask=config.mask_weight,
        dice=config.dice_weight,
        non_object=config.non_object_weight,
        spare_unknown=config.spare_unknown,
    )
    costs = MatchingCosts(mask=config.mask_weight, dice=config.dice_weight)

    def predict(layer: LayerOutput) -> Prediction:
        logits = network.class_logits(layer.class_embeddings, text_embeddings)
        return Prediction(logits, layer.mask_logits)

    losses: list[float] = []
    tail: dict[str, list[float]] = {}
    for step, batch in enumerate(augmented_batches(config, samples)):
        factor = warmup_poly(
            step,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            warmup_factor=config.warmup_factor,
            power=config.power,
        )
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        pixels = pad_batch(
            [sample.image for sample in batch],
            config.inputs.mean,
            config.inputs.std,
            text_embeddings.device,
        )
        targets = [target_of(sample, config, text_embeddings.device) for sample in batch]
        output = network(pixels, with_aux=True)
        result = criterion(
            predict(output),
            [predict(layer) for layer in output.aux],
            targets,
            weights=weights,
            costs=costs,
        )
        loss = result.total.item()
        if not math.isfinite(loss):
            raise OvsegError(
                f"the loss is {loss} at step {step}; lower learning_rate ({config.learning_rate})"
            )
        optimizer.zero_grad()
        torch.autograd.backward(result.total)
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        optimizer.step()
        losses.append(loss)
        if step >= config.steps * 0.9:
            for name in ("loss_ce", "loss_mask", "loss_dice"):
                tail.setdefault(name, []).append(result.terms[name].item())
        if progress is not None:
            progress(step + 1, loss)
    return losses, {name: float(np.mean(values)) for name, values in tail.items()}


def target_of(
    sample: SegmentationSample, config: SegmentationConfig, device: torch.device
) -> Target:
    """A sample as the criterion wants it, its masks thinned to the target stride.

    With `ignore_unknown` off, unlabelled pixels are background to every mask, as upstream.
    """
    if config.targets == "category":
        sample = merge_categories(sample)
    thin = slice(config.target_stride // 2, None, config.target_stride)
    masks = torch.from_numpy(np.ascontiguousarray(sample.masks[:, thin, thin])).to(device)
    known = torch.from_numpy(np.ascontiguousarray(sample.known[thin, thin])).to(device)
    return Target(
        labels=torch.from_numpy(sample.labels).to(device),
        masks=masks,
        valid=known if config.ignore_unknown else None,
    )


def augmented_batches(
    config: SegmentationConfig, samples: Sequence[SegmentationSample]
) -> Iterator[list[SegmentationSample]]:
    """Exactly `steps` batches of augmented samples, in an order fixed by the seed."""
    rng = np.random.default_rng(config.seed)
    how = Augmentation(
        crop=config.crop,
        short_sides=config.short_sides,
        max_side=config.max_side,
        flip=config.flip,
        colour_jitter=config.colour_jitter,
    )
    queue: list[int] = []
    for _ in range(config.steps):
        while len(queue) < config.batch_size:
            queue += rng.permutation(len(samples)).tolist()
        indices, queue = queue[: config.batch_size], queue[config.batch_size :]
        yield [augment(samples[index], how, rng) for index in indices]
