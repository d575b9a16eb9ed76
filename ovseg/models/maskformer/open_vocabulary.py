"""The open-vocabulary MaskFormer: queries have a CLIP-space embedding instead of class scores.

Pixel decoder and transformer decoder come from `transformers`; the head is the paper's (OVSeg,
CVPR 2023, section 3.1, after Xu et al. 2021): each query gives a mask and an embedding, which is
compared by cosine with the text embeddings of any vocabulary plus one learned *non-object* row.
`ovseg.models.maskformer.load` turns it into a proposal network;
`ovseg.training.segmentation.trainer` trains it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from ovseg.models.proposal import COSINE_SCALE
from ovseg.models.weights.settings_files import MOST_LAYERS

if TYPE_CHECKING:
    from transformers import MaskFormerConfig, MaskFormerModel

# silences a wrong warning about maskformer-swin, its own backbone for this network
logging.getLogger("transformers.models.maskformer.configuration_maskformer").setLevel(logging.ERROR)

# larger than any real model, so that foreign configurations and shapes cannot build absurd networks
Width = Annotated[int, Field(ge=1, le=2**16)]
Depth = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
Share = Annotated[float, Field(ge=0, le=1)]


class Architecture(BaseModel):
    """Dimensions of the network; the defaults are the paper's Swin-B setting.

    `feature_dim` must be a multiple of 32 (the pixel decoder's group norm has 32 groups);
    `depths` and `heads` have one entry per backbone stage, at strides 4, 8, 16, 32. A ResNet may
    have only three stages, so that queries see a finer map of small images; it has no heads.

    `backbone` is `swin`, `resnet` (basic blocks, trained from scratch), `resnet_bottleneck`
    (ResNet-50 and -101) or `resnet_deep_stem` (the paper's ResNet-101c at `R101C`'s dimensions,
    frozen norms). `backbone_dim` is the width of the first stage's output, `stem_dim` that of the
    stem; `resnet` uses the same for both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Literal["swin", "resnet", "resnet_bottleneck", "resnet_deep_stem"] = "swin"
    backbone_dim: Width = 128
    stem_dim: Width = 128
    depths: Annotated[tuple[Depth, ...], Field(max_length=8)] = (2, 2, 18, 2)
    heads: Annotated[tuple[Width, ...], Field(max_length=8)] = (4, 8, 16, 32)
    window: Width = 12
    drop_path: Share = 0.3
    feature_dim: Width = 256
    mask_dim: Width = 256
    query_dim: Width = 256
    queries: Width = 100
    decoder_layers: Depth = 6
    decoder_heads: Width = 8
    decoder_ffn: Width = 2048
    dropout: Share = 0.1
    class_hidden_dim: Width = 1024
    embedding_dim: Width = 768

    def transformers_config(self) -> MaskFormerConfig:
        """Return a `transformers` configuration of these dimensions, without pretrained weights.

        `transformers` has no deep stem; a thin ResNet with the same channels is its placeholder.
        """
        from transformers import MaskFormerConfig, ResNetConfig
        from transformers.models.maskformer import MaskFormerSwinConfig
        from transformers.models.maskformer.configuration_maskformer import MaskFormerDetrConfig

        stages = [f"stage{stage}" for stage in range(1, len(self.depths) + 1)]
        deep = self.backbone == "resnet_deep_stem"
        bottleneck = deep or self.backbone == "resnet_bottleneck"
        backbone = (
            MaskFormerSwinConfig(
                embed_dim=self.backbone_dim,
                depths=list(self.depths),
                num_heads=list(self.heads),
                window_size=self.window,
                drop_path_rate=self.drop_path,
                out_features=stages,
            )
            if self.backbone == "swin"
            else ResNetConfig(
                embedding_size=self.stem_dim if bottleneck else self.backbone_dim,
                hidden_sizes=[self.backbone_dim * 2**stage for stage in range(len(self.depths))],
                depths=[1] * len(self.depths) if deep else list(self.depths),
                layer_type="bottleneck" if bottleneck else "basic",
                out_features=stages,
            )
        )
        decoder = MaskFormerDetrConfig(
            d_model=self.query_dim,
            num_queries=self.queries,
            encoder_layers=0,
            encoder_attention_heads=self.decoder_heads,
            decoder_layers=self.decoder_layers,
            decoder_attention_heads=self.decoder_heads,
            decoder_ffn_dim=self.decoder_ffn,
            dropout=self.dropout,
        )
        return MaskFormerConfig(
            fpn_feature_size=self.feature_dim,
            mask_feature_size=self.mask_dim,
            backbone_config=backbone,
            decoder_config=decoder,
        )


R101C = Architecture(
    backbone="resnet_deep_stem",
    backbone_dim=256,
    depths=(3, 4, 23, 3),
    heads=(),
    drop_path=0.0,
    embedding_dim=512,
)
"""The paper's smaller model: ResNet-101c, class embeddings in the space of CLIP ViT-B/16."""


@dataclass(frozen=True)
class LayerOutput:
    """The head's output after one decoder layer.

    Attributes:
        class_embeddings: (B, Q, E) float, not normalized.
        mask_logits: (B, Q, H/4, W/4) float.
    """

    class_embeddings: Tensor
    mask_logits: Tensor


@dataclass(frozen=True)
class MaskFormerOutput(LayerOutput):
    """The last decoder layer's output and, if requested, those of the earlier layers.

    Attributes:
        aux: one `LayerOutput` for each earlier decoder layer, in order.
    """

    aux: list[LayerOutput] = field(default_factory=list)


class MLP(nn.Module):
    """Linear layers with ReLU between them (none after the last)."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dims[0]) to (..., dims[-1])."""
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index + 1 < len(self.layers):
                x = F.relu(x)
        return x


def ready_backbone(model: MaskFormerModel, architecture: Architecture) -> None:
    """Adapt the backbone that `transformers` built to the architecture, in place."""
    from ovseg.models.maskformer.resnet import DeepStemResNet

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # `transformers` initializes these near 0, which stalls a backbone trained from scratch
            nn.init.ones_(module.weight)
    if architecture.backbone == "resnet_deep_stem":
        model.pixel_level_module.encoder = DeepStemResNet(
            stem_dim=architecture.stem_dim,
            dim=architecture.backbone_dim,
            depths=architecture.depths,
        )


class OpenVocabularyMaskFormer(nn.Module):
    """MaskFormer whose queries are classified by cosine with text embeddings.

    Args:
        architecture: dimensions; `embedding_dim` is the width of the text embeddings.
    """

    def __init__(self, architecture: Architecture) -> None:
        from transformers import MaskFormerModel

        super().__init__()
        self.architecture = architecture
        self.model = MaskFormerModel(architecture.transformers_config())
        width = architecture.query_dim
        self.class_embed = MLP([width, architecture.class_hidden_dim, architecture.embedding_dim])
        self.mask_embed = MLP([width, width, width, architecture.mask_dim])
        self.non_object_embedding = nn.Parameter(torch.empty(1, architecture.embedding_dim))
        nn.init.normal_(self.non_object_embedding, std=0.02)
        ready_backbone(self.model, architecture)

    def forward(self, pixels_nchw: Tensor, *, with_aux: bool = False) -> MaskFormerOutput:
        """Run the network.

        Args:
            pixels_nchw: (B, 3, H, W) float, normalized; H and W multiples of 32. As upstream,
                there is no padding mask, so attention includes the padding.
            with_aux: also apply the head to the earlier decoder layers (deep supervision).

        Returns:
            Embeddings and stride-4 mask logits for every query.
        """
        pixel_level = self.model.pixel_level_module(pixels_nchw)
        mask_features = pixel_level.decoder_last_hidden_state
        states = self._decode(pixel_level.encoder_last_hidden_state)
        outputs = [
            LayerOutput(
                self.class_embed(state),
                torch.einsum("bqc,bchw->bqhw", self.mask_embed(state), mask_features),
            )
            for state in (states if with_aux else states[-1:])
        ]
        last = outputs[-1]
        return MaskFormerOutput(last.class_embeddings, last.mask_logits, outputs[:-1])

    def _decode(self, features_bchw: Tensor) -> list[Tensor]:
        """Return each decoder layer's output (B, Q, D) after the shared final layer norm.

        The loop is written out because `transformers` returns the input state and unnormalized
        intermediate states; the paper supervises every layer through the final norm.
        """
        transformer = self.model.transformer_module
        if transformer.input_projection is not None:
            features_bchw = transformer.input_projection(features_bchw)
        batch, channels, height, width = features_bchw.shape
        position = transformer.position_embedder(
            features_bchw.shape, features_bchw.device, features_bchw.dtype
        )
        position = position.view(-1, channels, height * width).transpose(1, 2)
        features = features_bchw.flatten(2).transpose(1, 2)
        queries = transformer.queries_embedder.weight.unsqueeze(0).expand(batch, -1, -1)
        state = torch.zeros_like(queries)
        states = []
        for layer in transformer.decoder.layers:
            state = layer(state, None, position, queries, features)
            states.append(transformer.decoder.layernorm(state))
        return states

    def class_logits(self, class_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
        """Compare queries with a vocabulary: 100 x cosine, the last column is *non-object*.

        Args:
            class_embeddings: (..., Q, E) float.
            text_embeddings: (K, E) float, need not be normalized.

        Returns:
            (..., Q, K + 1) float logits for a softmax.
        """
        rows = torch.cat([text_embeddings.to(self.non_object_embedding), self.non_object_embedding])
        # no epsilon, as upstream; only a broken model has an embedding of exact zeros
        text = rows / rows.norm(dim=-1, keepdim=True)
        query = class_embeddings / class_embeddings.norm(dim=-1, keepdim=True)
        logits: Tensor = COSINE_SCALE * query @ text.T
        return logits
