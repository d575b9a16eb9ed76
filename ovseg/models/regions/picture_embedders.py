"""Embedders that show CLIP the whole image once for all its masks: mask tokens, mask pooling.

`ovseg.models.regions.embedders` makes both by name. The image is resized for CLIP; the masks are
mapped to CLIP's patches or grid cells without being resized.
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
from ovseg.models.regions.crops import foreground


def image_pixels(clip: OpenClipModel, image: ImageArray, size: tuple[int, int]) -> Tensor:
    """Prepare an image `(H, W, 3)` uint8 RGB for CLIP: `(1, 3, *size)` float32, normalized.

    It is resized bicubically with antialiasing; the aspect ratio is not kept.
    """
    device = clip.logit_scale.device
    pixels = torch.tensor(image, device=device).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 255)
    mean = torch.tensor(clip.pixel_mean, device=device)[:, None, None]
    std = torch.tensor(clip.pixel_std, device=device)[:, None, None]
    return (resized / 255 - mean) / std


class MaskTokenEmbedder:
    """One mask token per mask, see `ovseg.models.clip.mask_tokens`.

    Args:
        clip: a ViT, original or adapted by training on mask tokens.
        size: side of the square the image is squashed to, pixels, a multiple of the patch size;
            0 for the CLIP's own.
        section: where `image_size` is set, for the message.

    Raises:
        OvsegError: if the ViT does not embed by its class token or has another attention, or the
            size is not a multiple of the patch size.
    """

    def __init__(
        self, clip: MaskAdaptedCLIP, *, size: int = 0, section: str = "benchmarks"
    ) -> None:
        check_tower(clip)
        self.clip = clip
        self.size = size or clip.image_size
        if self.size % clip.patch_size:
            raise OvsegError(
                f"{self.size} pixels are not whole patches of {clip.patch_size}: set"
                f" {section}.image_size to a multiple"
            )

    @torch.no_grad()
    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """See `ovseg.models.regions.embedders.RegionEmbedder`."""
        binary = foreground(masks_qhw, threshold)
        valid = binary.flatten(1).any(dim=1)
        if not bool(valid.any()):
            return self.clip.logit_scale.new_zeros((0, self.clip.embed_dim)), valid
        covered = covered_patches(binary[valid], self.size // self.clip.patch_size)
        pixels = image_pixels(self.clip, image, (self.size, self.size))
        tokens, _ = encode_mask_tokens(self.clip, pixels, covered[None].to(pixels.device))
        return tokens[0].float(), valid


class MaskPoolingEmbedder:
    """Dense features of a convolutional CLIP, averaged under each mask.

    A grid cell's weight is the share of it that the mask covers, so no mask with a pixel is lost.
    With `whole_places`, as in FC-CLIP, mostly covered cells have equal weights, and a mask without
    any is not embedded.

    Args:
        clip: the convolutional CLIP.
        size: short side to which the image is resized, pixels; 0 keeps its size. Both sides are
            rounded to whole cells of `STRIDE` pixels.
        max_side: maximum of the long side, pixels; 0 for no limit.
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
        binary = foreground(masks_qhw, threshold)
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
        pixels = image_pixels(self.clip, image, (places[0] * STRIDE, places[1] * STRIDE))
        features = self.clip.dense_features(pixels)[0]
        return self.clip.pool_masks(features, shares[valid].to(features.device)).float(), valid


def place_shares(masks_qhw: Tensor, places: tuple[int, int]) -> Tensor:
    """Return the share of each grid cell that masks cover: `(Q, h, w)` float32 in 0..1.

    Exact for any sizes: a pixel on the border of two cells counts in proportion for each.

    Args:
        masks_qhw: `(Q, H, W)` bool.
        places: h and w.
    """
    rows = _overlaps(masks_qhw.shape[1], places[0]).to(masks_qhw.device)
    columns = _overlaps(masks_qhw.shape[2], places[1]).to(masks_qhw.device)
    return rows @ masks_qhw.float() @ columns.T


def _overlaps(pixels: int, places: int) -> Tensor:
    """Return `(places, pixels)` float32, the share of each cell that is within each pixel."""
    edges = torch.arange(pixels + 1, dtype=torch.float64) * places / pixels
    starts = torch.arange(places, dtype=torch.float64)[:, None]
    low, high = edges[:-1].clamp(min=starts), edges[1:].clamp(max=starts + 1)
    return (high - low).clamp(min=0).float()
