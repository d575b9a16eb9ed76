"""Batches for training the compact convolutional CLIP: pictures with their targets, and mosaics."""

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

_FORWARD = 256  # pictures or texts at once, where nothing is trained


def mosaic(pictures_nchw: Tensor, tiles: int) -> Tensor:
    """Lay `(M * T * T, 3, S, S)` pictures out as `(M, 3, T * S, T * S)` mosaics, row by row."""
    count, channels, size = pictures_nchw.shape[:3]
    grid = pictures_nchw.reshape(count // tiles**2, tiles, tiles, channels, size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, tiles * size, tiles * size)


class TileBatches:
    """Endless shuffled batches: cropped pictures, what their captions and the teacher say of them.

    The targets are computed once: the text tower is frozen, and one caption a picture is enough
    for a run of a few epochs.

    Args:
        data: the pictures.
        teacher: the CLIP whose texts and image embeddings are the targets.
        batch: pictures a batch.
        size: side S of the pictures, pixels.
        seed: of order, captions and augmentation.
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
        """The next batch.

        Returns:
            Pixels `(B, 3, S, S)` float32 normalised, the teacher's embeddings `(B, E)` of the
            pictures, the embeddings `(U, E)` of the batch's distinct captions, and for each picture
            the row of its caption `(B,)`.
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
        """Random crops of 70-100 % of each side, brightness; no flip, which captions may tell."""
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
