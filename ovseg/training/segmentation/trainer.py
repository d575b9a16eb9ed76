"""Trains a network from masks and labels: the class-embedding MaskFormer, or pixel embeddings.

`ovseg.training.segmentation.recipes` has the configuration,
`ovseg.training.segmentation.objectives` the losses; `ovseg.training.segmentation.samples` provides
a folder of images and label maps to train on, `ovseg.pretraining.maskformer` the storybook's
scenes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.models.devices import resolve_device
from ovseg.models.preprocessing import pad_batch
from ovseg.training.loop import finite_loss, parameter_groups, slow_down, take_step, warmup_poly
from ovseg.training.segmentation.augmentation import SegmentationSample
from ovseg.training.segmentation.batches import augmented_batches
from ovseg.training.segmentation.objectives import (
    OBJECTIVES,
    Trainable,
    build_network,
    save_network,
)
from ovseg.training.segmentation.recipes import SegmentationConfig
from ovseg.training.segmentation.starting_weights import load_backbone, start_from
from ovseg.training.state import LogRow, keeps_state, load_state, save_state


@dataclass(frozen=True)
class SegmentationReport:
    """The results of a training.

    Attributes:
        log: a row for each step, including those of an earlier attempt.
        terms: the objective's unweighted terms, the mean of the last tenth of the steps.
        seconds: wall time.
        parameters: number of trained values.
    """

    log: list[LogRow]
    terms: dict[str, float]
    seconds: float
    parameters: int

    @property
    def losses(self) -> list[float]:
        """The weighted total of every step."""
        return [loss for _, _, loss, _, _ in self.log]


def freeze_backbone(network: Trainable, parts: int) -> None:
    """Stop gradients to the first parts of a deep-stem ResNet; 0 freezes nothing.

    Raises:
        OvsegError: if the backbone is a different one, or has fewer parts.
    """
    if not parts:
        return
    from ovseg.models.maskformer.resnet import DeepStemResNet

    encoder = network.model.pixel_level_module.encoder
    if not isinstance(encoder, DeepStemResNet):
        raise OvsegError(
            f"frozen_parts is {parts}, but the backbone is {network.architecture.backbone};"
            " only resnet_deep_stem has parts to freeze"
        )
    encoder.freeze(parts)


def network_groups(network: nn.Module, config: SegmentationConfig) -> list[dict[str, Any]]:
    """Group parameters: the backbone has its own rate; norms, embeddings, position biases no decay.

    Parameters without a gradient are in no group.
    """
    undecayed: set[str] = set()
    norms = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
    for prefix, module in network.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, norms) or name == "relative_position_bias_table":
                undecayed.add(f"{prefix}.{name}")
    return parameter_groups(
        {name: p for name, p in network.named_parameters() if p.requires_grad},
        rate=backbone_rate(config.learning_rate, config.backbone_multiplier),
        decay=lambda name, _: 0.0 if name in undecayed else config.weight_decay,
    )


def backbone_rate(learning_rate: float, multiplier: float) -> Callable[[str], float]:
    """Return a `rate` for `parameter_groups`: the backbone's is a multiple of the rest's."""
    return lambda name: (
        learning_rate
        * (multiplier if name.startswith("model.pixel_level_module.encoder.") else 1.0)
    )


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """The resumable state of a training.

    Attributes:
        folder: folder of the state; the caller removes it at the end.
        identity: digest of the samples and everything else apart from the configuration that the
            training depends on. A state with another identity is not resumed.
    """

    folder: Path
    identity: str


def train_segmentation(
    config: SegmentationConfig,
    samples: Sequence[SegmentationSample],
    text_embeddings: Tensor,
    class_names: Sequence[str],
    out_dir: Path,
    *,
    progress: Callable[[int, float], None] | None = None,
    continuation: Continuation | None = None,
) -> SegmentationReport:
    """Train and write the folder that `load_maskformer` or `load_pixels` reads.

    Args:
        config: recipe; the architecture's `embedding_dim` must be the text embeddings' width.
        samples: labelled images; drawn in a new random order each pass.
        text_embeddings: (K, E) float, one row per class.
        class_names: K names, stored with the weights.
        out_dir: folder to write.
        progress: called with (steps done, loss) after every step.
        continuation: where a state is kept every `checkpoint_every` steps and resumed from, to the
            same weights; None keeps none.

    Returns:
        Losses, duration and size.

    Raises:
        OvsegError: if there are no samples, the text embeddings or the backbone's file do not
            match, or the loss diverges.
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
        network = build_network(config).to(device)
        if config.start:
            start_from(network, config.start)
        if config.backbone_file is not None:
            load_backbone(network, config.backbone_file)
        training = Training(config, network, text_embeddings.to(device))
        training.run(samples, progress=progress, continuation=continuation)
    save_network(network, out_dir, config, class_names=class_names, text_embeddings=text_embeddings)
    tail = training.terms[math.ceil(config.steps * 0.9) :]
    return SegmentationReport(
        log=training.log,
        terms=dict(zip(training.objective.terms, tail.mean(dim=0).tolist())) if len(tail) else {},
        seconds=time.monotonic() - start,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


class Training:
    """A network, its optimizer and the log of completed steps.

    Args:
        config: recipe.
        network: trained in place, on the device of the texts.
        text_embeddings: (K, E) float.
    """

    def __init__(
        self,
        config: SegmentationConfig,
        network: Trainable,
        text_embeddings: Tensor,
    ) -> None:
        self.config, self.network, self.device = config, network, text_embeddings.device
        self.objective = OBJECTIVES[config.head](config, network, text_embeddings)
        network.train()
        freeze_backbone(network, config.frozen_parts)
        self.optimizer = torch.optim.AdamW(network_groups(network, config))
        self.log: list[LogRow] = []
        self.terms = torch.zeros(config.steps, len(self.objective.terms), dtype=torch.float64)

    def run(
        self,
        samples: Sequence[SegmentationSample],
        *,
        progress: Callable[[int, float], None] | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        """Take all steps, or those an earlier attempt did not take; see `train_segmentation`."""
        config = self.config
        if continuation is not None:
            self._resume(continuation)
        for batch in augmented_batches(config, samples, first=len(self.log)):
            loss = self.step(batch, epoch=len(self.log) * config.batch_size // len(samples))
            done = len(self.log)
            if continuation and keeps_state(
                done, total=config.steps, every=config.checkpoint_every
            ):
                save_state(
                    continuation.folder,
                    identity=self._identity(continuation),
                    step=done,
                    parameters=self._state(),
                    optimizer=self.optimizer,
                    log=self.log,
                )
            if progress is not None:
                progress(done, loss)

    def step(self, batch: Sequence[SegmentationSample], *, epoch: int = 0) -> float:
        """Take one optimizer step and return the loss before it.

        Raises:
            OvsegError: if the loss is not finite.
        """
        config, number, device = self.config, len(self.log), self.device
        torch.manual_seed(_step_seed(config.seed, number))  # for dropout: no state to keep
        factor = warmup_poly(
            number,
            steps=config.steps,
            warmup_steps=config.warmup_steps,
            warmup_factor=config.warmup_factor,
            power=config.power,
        )
        images = [sample.image for sample in batch]
        pixels = pad_batch(images, config.inputs.mean, config.inputs.std, device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            output = self.objective.forward(pixels)
        total, terms = self.objective.loss(output, batch)
        advice = slow_down(config.learning_rate, config.warmup_steps)
        loss = finite_loss(total, step=number, advice=advice)
        take_step(
            total,
            [self.optimizer],
            factor=factor,
            clip=self.network.parameters(),
            clip_norm=config.clip_norm,
        )
        self.terms[number] = torch.stack([terms[k].detach() for k in self.objective.terms])
        self.log.append((number, epoch, loss, config.learning_rate * factor, self.objective.scale))
        return loss

    def _state(self) -> Mapping[str, nn.Parameter]:
        """All that steps change except the optimizer: parameters, running statistics, terms."""
        trained = {n: p for n, p in self.network.named_parameters() if p.requires_grad}
        state = {**trained, **dict(self.network.named_buffers()), "terms": self.terms}
        return cast(Mapping[str, nn.Parameter], state)  # buffers are stored in the same way

    def _identity(self, continuation: Continuation) -> str:
        return digest_json([self.config.digest(), continuation.identity])

    def _resume(self, continuation: Continuation) -> None:
        resumed = load_state(
            continuation.folder,
            identity=self._identity(continuation),
            parameters=self._state(),
            optimizer=self.optimizer,
            behind={},
        )
        if resumed is not None:
            self.log = resumed.log


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
