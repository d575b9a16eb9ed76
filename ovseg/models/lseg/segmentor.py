"""LSeg as a segmentor: a pixel gets the class whose text is nearest to its embedding.

It proposes no masks and needs no CLIP image tower. With proposals, pixel embeddings become an
embedder of regions: `ovseg.models.lseg.embedder.PixelPoolingEmbedder`.

    segmentor = PixelSegmentor(load_pixels(folder), class_names=names, texts=texts)
    labels = segmentor.segment(image).labels
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.models.ensemble import SCORE_BUDGET, best_of_parts, class_probabilities
from ovseg.models.lseg.embedder import PixelEmbedder, PixelFeatures
from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSize
from ovseg.models.segmentation import OpenVocabularySegmentor, Segmentation, shown_classes


class PixelSegmentor(OpenVocabularySegmentor):
    """Open-vocabulary semantic segmentation by pixel embeddings alone.

    Args:
        embedder: embeds the pixels.
        class_names: K names, verbatim.
        texts: `(T, E)` embeddings of the names, or of the prompts, L2 norm 1.
        prompts: texts for the classes, each with its class's index; defaults to the names. A pixel
            gets the class of the best text.
        size: size to which images are resized.

    Raises:
        OvsegError: if there is no class, or the network was trained for another CLIP's embeddings.
    """

    def __init__(
        self,
        embedder: PixelEmbedder,
        *,
        class_names: Sequence[str],
        texts: Tensor,
        prompts: Sequence[tuple[str, int]] = (),
        size: InputSize = OWN_SIZE,
    ) -> None:
        names = shown_classes(class_names, prompts)
        super().__init__(class_names, names, texts.float().to(embedder.device))
        embedder.check_texts(texts)
        self.embedder, self.size = embedder, size

    @torch.no_grad()
    def segment(self, image: ImageArray) -> Segmentation:
        """Segment an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.

        Returns:
            A segmentation whose masks are the `(R, H, W)` regions of the classes that occur, in
            ascending order.
        """
        features = self.embedder.embed(image, size=self.size)
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
        """Return the `(T, H, W)` float32 cosines whose argmax `segment` takes, all at once."""
        features = self.embedder.embed(image, size=self.size)
        return features.cosines(self.texts, (image.shape[0], image.shape[1]))

    @torch.no_grad()
    def name_masks(self, image: ImageArray, masks_qhw: Tensor) -> tuple[Tensor, Tensor]:
        """Name masks by their mean pixel embedding; see `OpenVocabularySegmentor.name_masks`."""
        regions, valid = self.embedder.embed(image, size=self.size).pooled(masks_qhw)
        return self._named(regions), valid

    def _named(self, regions_ve: Tensor) -> Tensor:
        scale = 1 / self.embedder.network.temperature
        return class_probabilities(regions_ve, self.texts, scale=scale)

    def _best_texts(self, features: PixelFeatures, size: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the `(H, W)` index of each pixel's nearest text, without holding all maps."""
        height, width = size[0], size[1]
        pixels = max(height * width, features.padded[0] * features.padded[1])
        parts = torch.split(self.texts, max(1, SCORE_BUDGET // pixels))
        _, labels = best_of_parts(features.cosines(part, (height, width)) for part in parts)
        labels_hw: NDArray[np.int64] = labels.cpu().numpy()
        return labels_hw
