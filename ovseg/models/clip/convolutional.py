"""A CLIP with a convolutional tower, whose dense features are pooled under masks.

A convolutional tower takes images of any size, so one pass over the whole image serves all its
masks (FC-CLIP, NeurIPS 2023, section 3): the features before the pooling head are averaged under a
mask, and the rest of CLIP's head turns the average into an embedding. Nothing is trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import OpenClipModel, Tokenizer

if TYPE_CHECKING:
    from open_clip.modified_resnet import AttentionPool2d

STRIDE = 32  # of the last features of both families, pixels


def is_convolutional(visual: nn.Module) -> bool:
    """Whether `ConvCLIP` supports an image tower of open_clip."""
    from open_clip.timm_model import TimmModel
    from timm.models.convnext import ConvNeXt

    if _is_resnet(visual):
        return True
    # with open_clip's own pooling, the head is not an average that a mask could replace
    return (
        isinstance(visual, TimmModel)
        and isinstance(visual.trunk, ConvNeXt)
        and not any(name == "pool" for name, _ in visual.head.named_children())
    )


class ConvCLIP(OpenClipModel):
    """A CLIP of open_clip whose tower is its ResNet (`RN50` ...) or timm's ConvNeXt.

    Args:
        clip: open_clip model.
        tokenizer: as for `OpenClipModel`.
        model_cfg: open_clip's configuration of the model.
        vocabulary: as for `OpenClipModel`.

    Raises:
        OvsegError: if the tower is of another kind.
    """

    def __init__(
        self,
        clip: nn.Module,
        *,
        tokenizer: Tokenizer,
        model_cfg: Mapping[str, Any],
        vocabulary: Path | None = None,
    ) -> None:
        visual: Any = clip.visual
        if not is_convolutional(visual):
            raise OvsegError(
                f"mask pooling needs a convolutional CLIP, this model has {type(visual).__name__}:"
                " choose a ResNet or ConvNeXt architecture"
            )
        super().__init__(clip, tokenizer=tokenizer, model_cfg=model_cfg, vocabulary=vocabulary)
        self._embed_dim = int(model_cfg["embed_dim"])

    @property
    def embed_dim(self) -> int:
        """Length of an embedding, image or text."""
        return self._embed_dim

    def dense_features(self, pixels_nchw: Tensor) -> Tensor:
        """Compute the features before the pooling head.

        Args:
            pixels_nchw: `(N, 3, H, W)` float, normalized, of any size from `STRIDE` up.

        Returns:
            `(N, C, H / 32, W / 32)`.
        """
        visual = self.clip.visual
        if _is_resnet(visual):
            features: Tensor = visual.stem(pixels_nchw)
            for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                features = layer(features)
            return features
        dense: Tensor = visual.trunk.forward_features(pixels_nchw)
        return dense

    def pool_masks(self, features_chw: Tensor, weights_qhw: Tensor) -> Tensor:
        """Embed masks over the dense features of one image.

        Args:
            features_chw: `(C, h, w)` from `dense_features`.
            weights_qhw: `(Q, h, w)` float >= 0, each with a value above 0: the weight of each
                position. Q may be 0.

        Returns:
            `(Q, E)` of L2 norm 1.
        """
        if not len(weights_qhw):
            return features_chw.new_zeros((0, self.embed_dim))
        weights = weights_qhw.flatten(1).to(features_chw.dtype)
        features = features_chw.flatten(1)
        visual = self.clip.visual
        if _is_resnet(visual):
            size = (features_chw.shape[1], features_chw.shape[2])
            return F.normalize(_attention_pool(visual.attnpool, features, weights, size), dim=-1)
        pooled = torch.einsum("cn,qn->qc", features, weights / weights.sum(dim=1, keepdim=True))
        head = visual.trunk.forward_head(pooled[:, :, None, None])
        return F.normalize(visual.head(head), dim=-1)


def _is_resnet(visual: nn.Module) -> bool:
    from open_clip.modified_resnet import ModifiedResNet

    return isinstance(visual, ModifiedResNet)


def _attention_pool(
    pool: AttentionPool2d, features_cn: Tensor, weights_qn: Tensor, size: tuple[int, int]
) -> Tensor:
    """Apply CLIP's attention pooling `(Q, E)` with the weights as a prior over positions.

    As in FC-CLIP, the query is the mean of the whole image and only the positions in the mask are
    keys; a position of weight 0 gets no attention.
    """
    positions = pool.positional_embedding.to(features_cn.dtype)
    side = math.isqrt(len(positions) - 1)
    grid = positions[1:].T.reshape(1, -1, side, side)
    if (side, side) != size:
        grid = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
    keys = features_cn.T + grid[0].flatten(1).T  # (N, C)
    query = features_cn.mean(dim=1) + positions[0]
    heads = pool.num_heads
    q = pool.q_proj(query).reshape(heads, 1, -1)
    k = pool.k_proj(keys).reshape(len(keys), heads, -1).transpose(0, 1)
    v = pool.v_proj(keys).reshape(len(keys), heads, -1).transpose(0, 1)
    attended = F.scaled_dot_product_attention(
        q.expand(-1, len(weights_qn), -1), k, v, attn_mask=weights_qn.log().to(q.dtype)
    )  # (heads, Q, C / heads)
    output: Tensor = pool.c_proj(attended.transpose(0, 1).flatten(1))
    return output
