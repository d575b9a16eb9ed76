"""Batches for training the compact convolutional CLIP: images with their targets, and mosaics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.text_tower import encode_trimmed
from ovseg.pretraining.pictures import CaptionedPictures

_FORWARD = 256  # images or texts per forward pass of inference


def mosaic(pictures_nchw: Tensor, tiles: int) -> Tensor:
    """Arrange images `(M * T * T, 3, S, S)` as mosaics `(M, 3, T * S, T * S)`, row by row."""
    count, channels, size = pictures_nchw.shape[:3]
    grid = pictures_nchw.reshape(count // tiles**2, tiles, tiles, channels, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, tiles * size, tiles * size)


class TileBatches:
    """Endless shuffled batches: cropped images, and the targets from captions and teacher.

    The targets are computed once: the text tower is frozen, and one caption per image is enough for
    a run of a few epochs.

    Args:
        data: the images.
        teacher: the CLIP whose texts and image embeddings are the targets.
        batch: images per batch.
        size: side S of the images, pixels.
        seed: for order, captions and augmentation.
    """

    def __init__(
        self,
        data: CaptionedPictures,
        teacher: MaskAdaptedCLIP,
        *,
        batch: int,
        size: int,
        seed: int,
    ) -> None:
        self.pictures = data.pictures_nhwc
        self.batch, self.size = batch, size
        self.rng = np.random.default_rng([seed, 43])
        self.mean = 255 * torch.tensor(teacher.pixel_mean)[:, None, None]
        self.std = 255 * torch.tensor(teacher.pixel_std)[:, None, None]
        said = [texts[self.rng.integers(len(texts))] for texts in data.captions]
        distinct = sorted(set(said))
        number = {text: index for index, text in enumerate(distinct)}
        self.caption_n = torch.tensor([number[text] for text in said])
        with torch.no_grad():
            device = teacher.logit_scale.device
            tokens = teacher.tokenizer(distinct).to(device)
            self.texts_te = torch.cat(
                [encode_trimmed(teacher, part).cpu() for part in torch.split(tokens, _FORWARD)]
            )
            self.wanted_ne = torch.cat(
                [
                    teacher.encode_regions(self._resized(part, teacher.image_size).to(device)).cpu()
                    for part in np.array_split(np.arange(len(said)), max(1, len(said) // _FORWARD))
                ]
            )
        self.order: list[int] = []

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the next batch.

        Returns:
            Pixels `(B, 3, S, S)` float32 normalized, the teacher's embeddings `(B, E)` of the
            images, the embeddings `(U, E)` of the batch's distinct captions, and each image's
            caption row `(B,)`.
        """
        while len(self.order) < self.batch:
            self.order.extend(self.rng.permutation(len(self.pictures)).tolist())
        chosen, self.order = self.order[: self.batch], self.order[self.batch :]
        rows = torch.tensor(chosen)
        distinct, local = torch.unique(self.caption_n[rows], return_inverse=True)
        return self._cropped(chosen), self.wanted_ne[rows], self.texts_te[distinct], local

    def _read(self, rows: Sequence[int] | NDArray[np.int64]) -> Tensor:
        pictures = self.pictures[np.sort(rows)][np.argsort(np.argsort(rows))]
        return torch.from_numpy(pictures).permute(0, 3, 1, 2).float()

    def _resized(self, rows: Sequence[int] | NDArray[np.int64], size: int) -> Tensor:
        pixels = F.interpolate(self._read(rows), size=(size, size), mode="bilinear", antialias=True)
        return (pixels - self.mean) / self.std

    def _cropped(self, rows: Sequence[int]) -> Tensor:
        """Crop to 70-100 % of each side and vary brightness; no flip: captions may name a side."""
        count, size = len(rows), self.size
        affine = np.zeros((count, 2, 3), np.float32)
        for axis in range(2):
            part = self.rng.uniform(0.7, 1.0, count)
            affine[:, axis, axis] = part
            affine[:, axis, 2] = self.rng.uniform(-1, 1, count) * (1 - part)
        grid = F.affine_grid(torch.from_numpy(affine), [count, 3, size, size], align_corners=False)
        pixels = F.grid_sample(self._read(rows), grid, padding_mode="border", align_corners=False)
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, (count, 1, 1, 1)).astype(np.float32))
        return (pixels * gain - self.mean) / self.std
