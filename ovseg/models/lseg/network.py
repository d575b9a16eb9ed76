"""A network that embeds every pixel in CLIP's text space: LSeg and LSeg+.

As in LSeg (Li et al., ICLR 2022), an image encoder and a decoder compute a vector per pixel, which
gets the class with the nearest text embedding; training is cross entropy over the seen classes,
with frozen texts. OVSeg's comparison (CVPR 2023, table 1) and OpenSeg call the same with a
ResNet-101 and a feature pyramid LSeg+. Backbone and pyramid are those of the class-embedding
MaskFormer (`ovseg.models.maskformer.open_vocabulary`), with the same names, so that each can load
the other's weights.

    network = PixelEmbeddingNetwork(architecture, head="fpn")
    logits = network.class_logits(network(pixels), texts)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovseg.models.maskformer.open_vocabulary import Architecture, ready_backbone

PixelHead = Literal["fpn", "dpt"]
TEMPERATURE = 0.07  # LSeg's, fixed there too; its logit scale is the inverse
NORM_GROUPS = 32


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions with an identity shortcut, as in RefineNet and DPT.

    Args:
        width: channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        refined: Tensor = self.conv2(F.relu(self.conv1(F.relu(x))))
        return x + refined


class FusionDecoder(nn.Module):
    """DPT's decoder (Ranftl et al., ICCV 2021) over a pyramid: fused from coarse to fine.

    Each map is projected to one width, added to the previous result, refined and enlarged; the last
    one too, so that the result has half the stride of the finest map.

    Args:
        channels: channels of the maps, from fine to coarse.
        width: width of the decoder.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(
            nn.Conv2d(each, width, 3, padding=1, bias=False) for each in channels
        )
        # the coarsest map has nothing to be added to
        self.skip = nn.ModuleList(ResidualConvolutions(width) for _ in channels[1:])
        self.refine = nn.ModuleList(ResidualConvolutions(width) for _ in channels)
        self.project = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map a pyramid (B, channels[i], h_i, w_i) to (B, width, 2 h_0, 2 w_0)."""
        fused: Tensor | None = None
        for level in reversed(range(len(maps))):
            x = self.lateral[level](maps[level])
            if fused is not None:
                x = fused + self.skip[level](x)
            x = self.refine[level](x)
            height, width = maps[level - 1].shape[-2:] if level else (2 * s for s in x.shape[-2:])
            x = F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
            fused = self.project[level](x)
        if fused is None:
            raise ValueError("no map to decode")
        return fused


class PixelEmbeddingNetwork(nn.Module):
    """Backbone, decoder, and a projection of every pixel into the text space.

    Args:
        architecture: dimensions; those of queries are not used. `class_hidden_dim` is the width
            before the projection, `embedding_dim` that of the text embeddings.
        head: `fpn` is MaskFormer's own pixel decoder, at the stride of its masks (4); `dpt` is the
            fusion decoder at half that stride, `feature_dim` wide.
        temperature: divisor of the cosines.
    """

    model: Any  # a module of modules, which types cannot express

    def __init__(
        self,
        architecture: Architecture,
        *,
        head: PixelHead = "fpn",
        temperature: float = TEMPERATURE,
    ) -> None:
        from transformers import MaskFormerModel

        super().__init__()
        if head not in get_args(PixelHead):
            raise ValueError(f"head must be one of {', '.join(get_args(PixelHead))}, not {head!r}")
        self.architecture, self.head, self.temperature = architecture, head, temperature
        whole = MaskFormerModel(architecture.transformers_config())
        ready_backbone(whole, architecture)
        self.model = nn.Module()  # keeps the MaskFormer's names
        self.model.pixel_level_module = whole.pixel_level_module
        width = architecture.mask_dim
        if head == "dpt":
            level = self.model.pixel_level_module
            width = architecture.feature_dim
            self.decoder = FusionDecoder(level.encoder.channels, width)
            del level.decoder
        hidden = architecture.class_hidden_dim
        self.pixel_embed = nn.Sequential(
            nn.Conv2d(width, hidden, 3, padding=1, bias=False),
            nn.GroupNorm(NORM_GROUPS, hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, architecture.embedding_dim, 1),
        )

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Embed pixels.

        Args:
            pixels_nchw: (B, 3, H, W) float, normalized; H and W multiples of 32.

        Returns:
            (B, E, H/s, W/s) float, not normalized; s is 4, or 2 with the fusion decoder.
        """
        level = self.model.pixel_level_module
        if self.head == "dpt":
            features = self.decoder(level.encoder(pixels_nchw).feature_maps)
        else:
            features = level(pixels_nchw).decoder_last_hidden_state
        embeddings: Tensor = self.pixel_embed(features)
        return embeddings

    def class_logits(self, embeddings_behw: Tensor, texts_ke: Tensor) -> Tensor:
        """Return the cosines of pixels and texts divided by the temperature.

        Args:
            embeddings_behw: (B, E, h, w) float.
            texts_ke: (K, E) float, need not be normalized; no gradient goes into them.

        Returns:
            (B, K, h, w) float logits for a softmax.
        """
        texts = F.normalize(texts_ke.detach().to(embeddings_behw), dim=1)
        pixels = F.normalize(embeddings_behw, dim=1)
        return torch.einsum("behw,ke->bkhw", pixels, texts) / self.temperature
