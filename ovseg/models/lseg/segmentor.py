"""LSeg as a segmentor: a pixel gets the class whose text is nearest to its embedding.

It proposes nothing and asks no CLIP for an image. With proposals, pixel embeddings are an embedder
of regions: `ovseg.models.lseg.embedder.PixelPoolingEmbedder`.

    segmentor = PixelSegmentor(load_pixels(folder), class_names=names, texts=texts)
    labels = segmentor.segment(image).labels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.ensemble import SCORE_BUDGET, class_probabilities
from ovseg.models.lseg.embedder import PixelEmbedder, PixelFeatures
from ovseg.models.preprocessing import ImageArray
from ovseg.models.segmentor import Segmentation
from ovseg.models.texts.class_texts import best_of_class


class PixelSegmentor:
    """Open-vocabulary semantic segmentation by pixel embeddings alone.

    Args:
        embedder: embeds the pixels.
        class_names: K names, verbatim.
        texts: `(T, E)` embeddings of the names, or of the prompts, L2 norm 1.
        prompts: texts that stand for the classes, each with its class's index, where they are
            others than the names. A pixel gets the class of the best text.
        short_side: images are resized to this short side; None for the network's own.
        max_side: but no longer than this; None for the network's own.
        budget: numbers that class maps may hold at once.

    Raises:
        OvsegError: no class, or a network trained for another CLIP's embeddings.
    """

    def __init__(
        self,
        embedder: PixelEmbedder,
        *,
        class_names: Sequence[str],
        texts: Tensor,
        prompts: Sequence[tuple[str, int]] = (),
        short_side: int | None = None,
        max_side: int | None = None,
        budget: int = SCORE_BUDGET,
    ) -> None:
        if not class_names:
            raise OvsegError("there is nothing to look for: name at least one class")
        shown = [text for text, _ in prompts] or [*class_names]
        if len(texts) != len(shown):
            raise ValueError(f"{len(texts)} embeddings for {len(shown)} names")
        embedder.check_texts(texts)
        self.embedder = embedder
        self.class_names = tuple(class_names)
        self.class_of = [index for _, index in prompts] or list(range(len(shown)))
        self.texts = texts.float().to(embedder.device)
        self.short_side, self.max_side = short_side, max_side
        self.budget = budget

    @torch.no_grad()
    def segment(self, image: ImageArray) -> Segmentation:
        """Segment an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.

        Returns:
            Its masks are the `(R, H, W)` regions of the classes that occur, in ascending order.
        """
        features = self._embed(image)
        labels = np.array(self.class_of)[self._best_texts(features, image.shape[:2])]
        masks = torch.from_numpy(labels == np.unique(labels)[:, None, None])
        regions, _ = features.pooled(masks.to(self.embedder.device))
        return Segmentation(
            labels=labels,
            classes=self.class_names,
            masks=masks.float(),
            probabilities=self._named(regions),
        )

    @torch.no_grad()
    def class_maps(self, image: ImageArray) -> Tensor:
        """The `(T, H, W)` float32 cosines whose argmax `segment` takes, all at once."""
        return self._embed(image).cosines(self.texts, (image.shape[0], image.shape[1]))

    @torch.no_grad()
    def classify_masks(
        self, image: ImageArray, masks_qhw: NDArray[np.bool_] | Tensor
    ) -> NDArray[np.float32]:
        """Name given masks by the mean of their pixels.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            masks_qhw: `(Q, H, W)` bool; Q may be 0.

        Returns:
            `(Q, K)` float32 probabilities; a row of zeros for a mask without a pixel.
        """
        on_device = torch.as_tensor(masks_qhw).to(self.embedder.device)
        regions, valid = self._embed(image).pooled(on_device)
        probabilities = torch.zeros(len(on_device), len(self.texts))
        probabilities[valid.cpu()] = self._named(regions).cpu()
        return best_of_class(probabilities.numpy(), self.class_of, len(self.class_names))

    def _embed(self, image: ImageArray) -> PixelFeatures:
        return self.embedder.embed(image, short_side=self.short_side, max_side=self.max_side)

    def _named(self, regions_ve: Tensor) -> Tensor:
        scale = 1 / self.embedder.network.temperature
        return class_probabilities(regions_ve, self.texts, scale=scale)

    def _best_texts(self, features: PixelFeatures, size: tuple[int, ...]) -> NDArray[np.int64]:
        """`(H, W)` index of each pixel's nearest text, without holding the maps of all of them."""
        height, width = size[0], size[1]
        pixels = max(height * width, features.padded[0] * features.padded[1])
        best = labels = None
        start = 0
        for part in torch.split(self.texts, max(1, self.budget // pixels)):
            top, index = features.cosines(part, (height, width)).max(dim=0)
            if best is None or labels is None:
                best, labels = top, index
            else:
                better = top > best  # strictly: of equal texts the first stays
                best = torch.where(better, top, best)
                labels = torch.where(better, index + start, labels)
            start += len(part)
        assert labels is not None  # there is a class
        found: NDArray[np.int64] = labels.cpu().numpy()
        return found
