"""Batches for the compact CLIP: each image once per epoch, a new crop, one of its captions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.pretraining.pictures import CaptionedPictures


class Batches:
    """Endless shuffled batches: augmented images, each with one of its captions.

    Args:
        data: the images.
        clip: whose tokenizer, input size and pixel statistics are used.
        batch: images per batch.
        seed: for order, captions and augmentation.
    """

    def __init__(
        self, data: CaptionedPictures, clip: OpenClipModel, *, batch: int, seed: int
    ) -> None:
        self.pictures = data.pictures_nhwc
        self.size = clip.image_size
        self.batch = batch
        self.rng = np.random.default_rng([seed, 41])
        self.mean = 255 * torch.tensor(clip.pixel_mean)[:, None, None]
        self.std = 255 * torch.tensor(clip.pixel_std)[:, None, None]
        known: dict[str, int] = {}
        self.texts_of = [[known.setdefault(text, len(known)) for text in c] for c in data.captions]
        texts = list(known)
        self.tokens = clip.tokenizer(texts)
        self.sided = np.array([" left " in text or " right " in text for text in texts])
        self.order: list[int] = []

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the next batch.

        Returns:
            Pixels `(B, 3, S, S)` float32 normalized, token ids `(U, context)` of the batch's
            distinct captions, and each image's caption row `(B,)`.
        """
        while len(self.order) < self.batch:
            self.order.extend(self.rng.permutation(len(self.pictures)).tolist())
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        texts = np.array([self.rng.choice(self.texts_of[index]) for index in chosen])
        distinct, rows = np.unique(texts, return_inverse=True)
        pixels = self._augment(
            self.pictures[np.sort(chosen)][np.argsort(np.argsort(chosen))], texts
        )
        tokens = self.tokens[torch.from_numpy(distinct)]
        return pixels, tokens, torch.from_numpy(rows)

    def _augment(self, pictures_nhwc: NDArray[np.uint8], texts: NDArray[np.int64]) -> Tensor:
        """Crop 45-100 % of the area, flip unless the caption names a side, vary the brightness."""
        count = len(pictures_nhwc)
        area = self.rng.uniform(0.45, 1.0, count)
        ratio = np.exp(self.rng.uniform(-0.2, 0.2, count))
        wide, high = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
        flip = np.where((self.rng.random(count) < 0.5) & ~self.sided[texts], -1.0, 1.0)
        affine = np.zeros((count, 2, 3), np.float32)
        affine[:, 0, 0], affine[:, 1, 1] = wide * flip, high
        affine[:, 0, 2] = self.rng.uniform(-1, 1, count) * (1 - wide)
        affine[:, 1, 2] = self.rng.uniform(-1, 1, count) * (1 - high)
        pixels = torch.from_numpy(pictures_nhwc).permute(0, 3, 1, 2).float()
        grid = F.affine_grid(
            torch.from_numpy(affine), [count, 3, self.size, self.size], align_corners=False
        )
        pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, (count, 1, 1, 1)).astype(np.float32))
        return (pixels * gain - self.mean) / self.std
