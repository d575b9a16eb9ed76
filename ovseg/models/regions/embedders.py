"""Embedders of masks in CLIP's space, by name in `ovseg.config.registry.EMBEDDERS`.

`crops` is the paper's: CLIP sees each mask's region by itself, cut out and masked. `mask_tokens`
and `mask_pooling` show CLIP the whole image once for all its masks. A segmentor only calls
`RegionEmbedder.embed`, whatever happens inside; so does mining, except with `crops`, whose batches
it fills from several images.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ovseg.config.mining import PairingConfig
from ovseg.config.registry import EMBEDDERS, chosen
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.models.clip.convolutional import ConvCLIP
from ovseg.models.clip.load import shared_clip
from ovseg.models.clip.mask_adapted import MaskAdaptedCLIP
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.lseg.embedder import PixelPoolingEmbedder, load_pixels, pixels_digest
from ovseg.models.preprocessing import ImageArray
from ovseg.models.regions.crops import Regions
from ovseg.models.regions.embedding import Cut, cut_regions, embed_regions
from ovseg.models.regions.picture_embedders import MaskPoolingEmbedder, MaskTokenEmbedder
from ovseg.models.reuse import reused

EmbedderConfig = BenchmarkConfig | PairingConfig
"""The configurations that choose an embedder, in the section that they name as `section`."""


class RegionEmbedder(Protocol):
    """Embeds masked regions in the space of CLIP's texts."""

    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """Embed the masks of an image that have any foreground.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            masks_qhw: `(Q, H, W)` bool, or float scores with a threshold; Q may be 0.
            threshold: scores strictly above it are foreground; None for bool masks.

        Returns:
            `(V, E)` float32 embeddings of L2 norm 1 of the V masks with foreground, in order, and
            `(Q,)` bool that marks these masks.
        """


class CropEmbedder:
    """Regions cut out along their masks, each embedded separately (OVSeg, CVPR 2023, 3.2).

    Args:
        clip: the CLIP.
        mask_prompts: whether to use its mask prompts, if it has any.
        region: what CLIP sees of a mask, a name in `ovseg.models.regions.crops.REGIONS`.
        background: beta of its attenuated styles.
        expand_ratio: crop box enlargement.
        batch_size: regions embedded at once.
    """

    def __init__(
        self,
        clip: OpenClipModel,
        *,
        mask_prompts: bool = True,
        region: str = "mean",
        background: float = 0.3,
        expand_ratio: float = 1.0,
        batch_size: int = 256,
    ) -> None:
        self.clip = clip
        self.mask_prompts = mask_prompts
        self.cut = Cut(region=region, background=background, expand_ratio=expand_ratio)
        self.batch_size = batch_size

    def embed(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """See `RegionEmbedder`."""
        clip = self.clip
        parts = torch.split(masks_qhw, self.batch_size)
        regions: Iterable[Regions] = cut_regions(
            clip, image, parts, cut=self.cut, threshold=threshold
        )
        if len(parts) == 1:  # more are too large to keep
            setting = (clip.image_size, clip.pixel_mean, clip.pixel_std, self.cut, threshold)
            regions = reused(("crops", *setting), (image, masks_qhw), partial(list, regions))
        return embed_regions(clip, regions, prompts=self.mask_prompts)


def crops(config: EmbedderConfig, clip: str, device: str) -> RegionEmbedder:
    """Return the embedder that cuts out each region for CLIP."""
    return CropEmbedder(
        shared_clip(clip, device=device),
        mask_prompts=getattr(config, "mask_prompts", True),
        region=config.region,
        background=config.background,
        expand_ratio=config.expand_ratio,
        batch_size=config.batch_size,
    )


def pixel_pooling(config: EmbedderConfig, clip: str, device: str) -> RegionEmbedder:
    """Return the embedder that averages the embeddings of a mask's pixels."""
    if isinstance(config, PairingConfig):
        raise OvsegError(
            f"{config.section}.embedder=pixel_pooling needs another network than CLIP, which mining"
            " does not have: choose crops, mask_tokens or mask_pooling"
        )
    return PixelPoolingEmbedder(load_pixels(config.pixels, device))


def mask_tokens(config: EmbedderConfig, clip: str, device: str) -> RegionEmbedder:
    """Return the embedder with one token per mask in one pass of a ViT."""
    model = shared_clip(clip, device=device)
    if not isinstance(model, MaskAdaptedCLIP):
        raise OvsegError(
            f"{clip} is convolutional and has no mask tokens: choose {config.section}.embedder="
            "mask_pooling, or a ViT"
        )
    return MaskTokenEmbedder(model, size=config.image_size, section=config.section)


def mask_pooling(config: EmbedderConfig, clip: str, device: str) -> RegionEmbedder:
    """Return the embedder that pools a convolutional CLIP's features under each mask."""
    model = shared_clip(clip, device=device)
    if not isinstance(model, ConvCLIP):
        raise OvsegError(
            f"{clip} is not a convolutional CLIP, which mask pooling needs: choose"
            f" {config.section}.clip=storybook-conv, or {config.section}.embedder=mask_tokens"
        )
    sides: tuple[int | None, int | None] = (None, None)
    if isinstance(config, BenchmarkConfig):
        sides = (config.short_side, config.max_side)
    return MaskPoolingEmbedder(
        model,
        size=config.image_size or sides[0] or 640,
        max_side=sides[1] or 2560,
        whole_places=config.whole_places,
    )


def embedder_weights(config: BenchmarkConfig) -> dict[str, str]:
    """Return the digests of the networks besides CLIP that embed regions, by setting."""
    return {"pixels": pixels_digest(config.pixels)} if config.embedder == "pixel_pooling" else {}


def region_embedder(config: EmbedderConfig, *, clip: str, device: str) -> RegionEmbedder:
    """Return the configured embedder.

    Args:
        config: the configuration of a benchmark or of pairing.
        clip: name of the CLIP, possibly a checkpoint instead of the configured one.
        device: where it runs.

    Raises:
        OvsegError: if there is no embedder of that name, or it does not fit the CLIP.
    """
    setting = f"{config.section}.embedder"
    return chosen(EMBEDDERS, config.embedder, setting=setting)(config, clip, device)
