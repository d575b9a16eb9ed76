"""Embedders that show CLIP the whole picture once, for all its masks: mask tokens, mask pooling.

Both are made by `ovseg.models.regions.embedders`, by name. The picture is the one the masks belong
to; it is resized for CLIP, and the masks are brought to CLIP's patches or places without being
resized.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.clip.convolutional import STRIDE, ConvCLIP
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.mask_tokens import check_tower, covered_patches, encode_mask_tokens
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.preprocessing import ImageArray


def picture_pixels(clip: OpenClipModel, image: ImageArray, size: tuple[int, int]) -> Tensor:
    """A picture `(H, W, 3)` uint8 RGB as CLIP takes it: `(1, 3, *size)` float32, normalised.

    Resized bicubically with antialiasing; the aspect ratio is not kept.
    """
    device = clip.logit_scale.device
    pixels = torch.tensor(image, device=device).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 255)
    mean = torch.tensor(clip.pixel_mean, device=device)[:, None, None]
    std = torch.tensor(clip.pixel_std, device=device)[:, None, None]
    return (resized / 255 - mean) / std


def _foreground(masks_qhw: Tensor, threshold: float | None) -> Tensor:
    """The masks as `(Q, H, W)` bool."""
    return masks_qhw if masks_qhw.dtype == torch.bool else masks_qhw > (threshold or 0.0)


class MaskTokenEmbedder:
    """A mask token a mask, see `ovseg.models.clip.mask_tokens`.

    Args:
        clip: a ViT, as it is or adapted by training on mask tokens.
        size: side of the square the picture is squashed to, pixels, a multiple of the patch size;
            0 for the CLIP's own.

    Raises:
        OvsegError: a ViT without a class token at its end, or of other attention; a size that is
            no multiple of the patch size.
    """

    def __init__(self, clip: MaskAdaptedCLIP, *, size: int = 0) -> None:
        check_tower(clip)
        self.clip = clip
        self.size = size or clip.image_size
        if self.size % clip.patch_size:
            raise OvsegError(
                f"{self.size} pixels are not whole patches of {clip.patch_size}: set"
                " benchmarks.image_size to a multiple"
            )

    @torch.no_grad()
    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """See `ovseg.models.regions.embedders.RegionEmbedder`."""
        binary = _foreground(masks_qhw, threshold)
        valid = binary.flatten(1).any(dim=1)
        if not bool(valid.any()):
            return self.clip.logit_scale.new_zeros((0, self.clip.embed_dim)), valid
        covered = covered_patches(binary[valid], self.size // self.clip.patch_size)
        pixels = picture_pixels(self.clip, image, (self.size, self.size))
        tokens, _ = encode_mask_tokens(self.clip, pixels, covered[None].to(pixels.device))
        return tokens[0].float(), valid


class MaskPoolingEmbedder:
    """Dense features of a convolutional CLIP, averaged under each mask.

    A place counts by the share of it that the mask covers, so that no mask with a pixel is lost;
    with `whole_places`, as in FC-CLIP, the places that are mostly covered count alike, and a mask
    that has none of them is not embedded.

    Args:
        clip: the convolutional CLIP.
        size: short side the picture is resized to, pixels; 0 leaves it as it is. Both sides are
            rounded to whole places of `STRIDE` pixels.
        max_side: but no longer than this, pixels; 0 for no limit.
        whole_places: see above.
    """

    def __init__(
        self, clip: ConvCLIP, *, size: int = 0, max_side: int = 0, whole_places: bool = False
    ) -> None:
        self.clip = clip
        self.size = size
        self.max_side = max_side
        self.whole_places = whole_places

    @torch.no_grad()
    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """See `ovseg.models.regions.embedders.RegionEmbedder`."""
        binary = _foreground(masks_qhw, threshold)
        height, width = image.shape[:2]
        scale = self.size / min(height, width) if self.size else 1.0
        if self.max_side:
            scale = min(scale, self.max_side / max(height, width))
        places = (max(1, round(height * scale / STRIDE)), max(1, round(width * scale / STRIDE)))
        shares = place_shares(binary, places)
        if self.whole_places:
            shares = (shares > 0.5).float()
        valid = shares.flatten(1).any(dim=1)
        if not bool(valid.any()):
            return self.clip.logit_scale.new_zeros((0, self.clip.embed_dim)), valid
        pixels = picture_pixels(self.clip, image, (places[0] * STRIDE, places[1] * STRIDE))
        features = self.clip.dense_features(pixels)[0]
        return self.clip.pool_masks(features, shares[valid].to(features.device)).float(), valid


def place_shares(masks_qhw: Tensor, places: tuple[int, int]) -> Tensor:
    """The share of each place of a grid that masks cover: `(Q, h, w)` float32 in 0..1.

    Exact for any sizes: a pixel on the border of two places counts for each by its part in it.

    Args:
        masks_qhw: `(Q, H, W)` bool.
        places: h and w.
    """
    rows = _overlaps(masks_qhw.shape[1], places[0]).to(masks_qhw.device)
    columns = _overlaps(masks_qhw.shape[2], places[1]).to(masks_qhw.device)
    return rows @ masks_qhw.float() @ columns.T


def _overlaps(pixels: int, places: int) -> Tensor:
    """`(places, pixels)` float32: the share of each place that is within each pixel."""
    edges = torch.arange(pixels + 1, dtype=torch.float64) * places / pixels
    starts = torch.arange(places, dtype=torch.float64)[:, None]
    low, high = edges[:-1].clamp(min=starts), edges[1:].clamp(max=starts + 1)
    return (high - low).clamp(min=0).float()
