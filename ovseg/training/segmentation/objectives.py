"""The objective of a segmentation training, by the recipe's head.

`queries` is the class-embedding MaskFormer: masks are matched with those of the labels, and each is
classified against the texts. `fpn` and `dpt` are LSeg: every labelled pixel is classified against
the texts. Both see only the texts of the training classes, and no gradient goes into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovseg.models.lseg.embedder import save_pixel_network
from ovseg.models.lseg.network import PixelEmbeddingNetwork
from ovseg.models.maskformer.load import save_maskformer
from ovseg.models.maskformer.open_vocabulary import (
    LayerOutput,
    MaskFormerOutput,
    OpenVocabularyMaskFormer,
)
from ovseg.models.proposal import COSINE_SCALE
from ovseg.training.segmentation.augmentation import SegmentationSample, merge_categories
from ovseg.training.segmentation.criterion import LossWeights, Prediction, criterion
from ovseg.training.segmentation.matching import MatchingCosts, Target
from ovseg.training.segmentation.recipes import SegmentationConfig

NO_LABEL = -100  # of a pixel; torch's cross entropy ignores this index


class Objective(Protocol):
    """A loss of a network's output.

    Attributes:
        terms: names of the unweighted terms.
        scale: factor on the cosines.
    """

    terms: tuple[str, ...]
    scale: float

    def forward(self, pixels_nchw: Tensor) -> Any:
        """Return the network's output, in half precision under autocast."""

    def loss(
        self, output: Any, batch: Sequence[SegmentationSample]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the total, a scalar with gradient, and the terms, in full precision."""


class QueryObjective:
    """The objective of the class-embedding MaskFormer; terms are of the last decoder layer.

    Args:
        config: recipe.
        network: a class-embedding MaskFormer.
        text_embeddings: (K, E) float, on the network's device.
    """

    terms: tuple[str, ...] = ("loss_ce", "loss_mask", "loss_dice")
    scale = COSINE_SCALE

    def __init__(
        self, config: SegmentationConfig, network: nn.Module, text_embeddings: Tensor
    ) -> None:
        assert isinstance(network, OpenVocabularyMaskFormer)
        self._config, self._network, self._texts = config, network, text_embeddings
        self._weights = LossWeights(
            mask=config.mask_weight,
            dice=config.dice_weight,
            non_object=config.non_object_weight,
            spare_unknown=config.spare_unknown,
        )
        self._costs = MatchingCosts(mask=config.mask_weight, dice=config.dice_weight)

    def forward(self, pixels_nchw: Tensor) -> MaskFormerOutput:
        """See `Objective`."""
        output: MaskFormerOutput = self._network(pixels_nchw, with_aux=True)
        return output

    def loss(
        self, output: MaskFormerOutput, batch: Sequence[SegmentationSample]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `Objective`."""
        result = criterion(
            self._predict(output),
            [self._predict(layer) for layer in output.aux],
            [target_of(sample, self._config, self._texts.device) for sample in batch],
            weights=self._weights,
            costs=self._costs,
        )
        return result.total, result.terms

    def _predict(self, layer: LayerOutput) -> Prediction:
        """Return the logits of a decoder layer in full precision."""
        embeddings = layer.class_embeddings.float()
        logits = self._network.class_logits(embeddings, self._texts)
        return Prediction(logits, layer.mask_logits.float())


class PixelObjective:
    """The objective of a pixel embedding network: mean cross entropy over the labelled pixels.

    Args:
        config: recipe.
        network: a pixel embedding network.
        text_embeddings: (K, E) float, on the network's device.
    """

    terms: tuple[str, ...] = ("loss_ce",)

    def __init__(
        self, config: SegmentationConfig, network: nn.Module, text_embeddings: Tensor
    ) -> None:
        assert isinstance(network, PixelEmbeddingNetwork)
        self._config, self._network, self._texts = config, network, text_embeddings
        self.scale = 1 / network.temperature

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """See `Objective`."""
        embeddings: Tensor = self._network(pixels_nchw)
        return embeddings

    def loss(
        self, output: Tensor, batch: Sequence[SegmentationSample]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `Objective`."""
        labels = pixel_labels(batch, stride=self._config.target_stride).to(output.device)
        logits = self._network.class_logits(output.float(), self._texts)
        total = pixel_cross_entropy(logits, labels)
        return total, {"loss_ce": total}


def pixel_cross_entropy(logits_bkhw: Tensor, labels_bhw: Tensor) -> Tensor:
    """Return the cross entropy of the labelled pixels, logits enlarged to the labels' size.

    Args:
        logits_bkhw: (B, K, h, w) float.
        labels_bhw: (B, H, W) int64 class indices, or `NO_LABEL`.

    Returns:
        A scalar, the mean over labelled pixels; 0 if none is labelled.
    """
    if bool((labels_bhw == NO_LABEL).all()):
        return logits_bkhw.sum() * 0  # an empty mean would be nan
    enlarged = F.interpolate(
        logits_bkhw, size=labels_bhw.shape[-2:], mode="bilinear", align_corners=False
    )
    return F.cross_entropy(enlarged, labels_bhw, ignore_index=NO_LABEL)


def pixel_labels(batch: Sequence[SegmentationSample], *, stride: int = 1) -> Tensor:
    """Return the class of every `stride`-th pixel in both directions.

    Args:
        batch: samples of one size; where masks overlap, the later one wins.
        stride: 1 takes all.

    Returns:
        (B, H', W') int64, `NO_LABEL` for unlabelled pixels.
    """
    thin = slice(stride // 2, None, stride)
    maps = []
    for sample in batch:
        masks, known = sample.masks[:, thin, thin], sample.known[thin, thin]
        labels = np.full(known.shape, NO_LABEL, dtype=np.int64)
        for mask, label in zip(masks, sample.labels):
            labels[mask & known] = label
        maps.append(labels)
    return torch.from_numpy(np.stack(maps))


def target_of(
    sample: SegmentationSample, config: SegmentationConfig, device: torch.device
) -> Target:
    """Convert a sample to the criterion's target, its masks thinned to the target stride.

    With `ignore_unknown` off, unlabelled pixels are background for every mask, as upstream.
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


# --------------------------------------------------------------------------------------
# By the head


Trainable = OpenVocabularyMaskFormer | PixelEmbeddingNetwork

OBJECTIVES: dict[str, Callable[[SegmentationConfig, nn.Module, Tensor], Objective]] = {
    "queries": QueryObjective,
    "fpn": PixelObjective,
    "dpt": PixelObjective,
}
"""The minimized objective, by the recipe's `head`."""


def build_network(config: SegmentationConfig) -> Trainable:
    """Build the network of a recipe, with random weights."""
    if config.head == "queries":
        return OpenVocabularyMaskFormer(config.architecture)
    return PixelEmbeddingNetwork(
        config.architecture, head=config.head, temperature=config.temperature
    )


def save_network(
    network: Trainable,
    folder: Path,
    config: SegmentationConfig,
    *,
    class_names: Sequence[str],
    text_embeddings: Tensor,
) -> None:
    """Write the folder that `load_maskformer` or `load_pixels` reads."""
    if isinstance(network, OpenVocabularyMaskFormer):
        save_maskformer(
            network,
            folder,
            inputs=config.inputs,
            class_names=class_names,
            text_embeddings=text_embeddings,
            half=config.half_weights,
        )
    else:
        save_pixel_network(
            network,
            folder,
            inputs=config.inputs,
            class_names=class_names,
            text_embeddings=text_embeddings,
            half=config.half_weights,
        )
