"""The base of every segmentor: texts of classes, and labels for an image and its masks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.preprocessing import ImageArray
from ovseg.models.texts.class_texts import ClassTexts, Pooling, best_of_class


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The segmentation of one image.

    Attributes:
        labels: `(H, W)` int64 class of each pixel; K where there is no proposal.
        classes: the K class names.
        masks: `(R, h, w)` float32 masks, at the resized size, of the proposals used: soft, or
            binary with `best_mask`.
        probabilities: `(R, C)` float32 scores, one per class or, if there are prompts, per text.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    masks: Tensor
    probabilities: Tensor


class OpenVocabularySegmentor(ABC):
    """Open-vocabulary semantic segmentation with any network.

    Args:
        class_names: K names, verbatim.
        shown: the texts of the classes, see `shown_classes`.
        texts: `(T, E)` their embeddings, L2 norm 1, on the device of the results.
        pooling: how several texts of a class are combined, see `ovseg.models.texts.class_texts`.
        relations: share of its probability that a class lends to classes with similar texts.

    Raises:
        ValueError: if the numbers of embeddings and texts differ.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        shown: Sequence[tuple[str, int]],
        texts: Tensor,
        *,
        pooling: Pooling = "texts",
        relations: float = 0.0,
    ) -> None:
        if len(texts) != len(shown):
            raise ValueError(f"{len(texts)} embeddings for {len(shown)} names")
        self.class_names = tuple(class_names)
        self.texts = texts
        self.class_texts = ClassTexts(
            embeddings=texts,
            class_of=tuple(index for _, index in shown),
            classes=len(class_names),
            pooling=pooling,
            relations=relations,
        )
        self.class_of = self.class_texts.columns

    @abstractmethod
    def segment(self, image: ImageArray) -> Segmentation:
        """Segment an image `(H, W, 3)` uint8 RGB."""

    @abstractmethod
    def class_maps(self, image: ImageArray) -> Tensor:
        """Return the `(C, H, W)` float32 maps whose argmax `segment` takes, all at once."""

    @abstractmethod
    def name_masks(self, image: ImageArray, masks_qhw: Tensor) -> tuple[Tensor, Tensor]:
        """Name masks of an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            masks_qhw: `(Q, H, W)` bool on the device of the texts; Q may be 0.

        Returns:
            `(V, C)` probabilities of the V non-empty masks, and `(Q,)` bool that marks them.
        """

    @torch.no_grad()
    def classify_masks(
        self, image: ImageArray, masks_qhw: NDArray[np.bool_] | Tensor
    ) -> NDArray[np.float32]:
        """Classify given masks; a two-stage segmentor uses CLIP only.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            masks_qhw: `(Q, H, W)` bool; Q may be 0.

        Returns:
            `(Q, K)` float32 probabilities; a row of zeros for a mask without a pixel.
        """
        on_device = torch.as_tensor(masks_qhw).to(self.texts.device)
        p_vc, valid = self.name_masks(image, on_device)
        probabilities = torch.zeros(len(on_device), len(self.class_of))
        probabilities[valid.cpu()] = p_vc.cpu()
        return best_of_class(probabilities.numpy(), self.class_of, len(self.class_names))


def shown_classes(
    class_names: Sequence[str], prompts: Sequence[tuple[str, int]] = ()
) -> list[tuple[str, int]]:
    """Return the texts of classes, each with its class's index.

    Args:
        class_names: K names.
        prompts: the texts; defaults to the names.

    Raises:
        OvsegError: if there is no class.
    """
    if not class_names:
        raise OvsegError("there are no classes to segment: name at least one")
    return [*prompts] or [(name, index) for index, name in enumerate(class_names)]
