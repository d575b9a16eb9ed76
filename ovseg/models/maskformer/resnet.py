"""The deep-stem ResNet (ResNet-101c) of the paper's smaller model, with frozen normalization.

As in detectron2's DeepLab ResNet: a stem of three 3x3 convolutions and a max pool, bottlenecks with
the stride in the 3x3 convolution, and a last stage dilated 1, 2, 4 that still halves the map.
Batch norms are fixed scales and shifts; their four tensors are buffers without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d
from transformers import MaskFormerConfig, MaskFormerForInstanceSegmentation
from transformers.modeling_outputs import BackboneOutput

from ovseg.errors import OvsegError

LAST_STAGE_DILATIONS = (1, 2, 4)
"""Dilation of the last stage's blocks; further blocks repeat the last value."""
BOTTLENECK_SHARE = 4  # a block's output width divided by its inner width


class ConvNorm(nn.Module):
    """A convolution without bias and its frozen batch norm.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: side of the kernel; the padding keeps the size at stride 1.
        stride: stride of the convolution.
        dilation: dilation of the convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            bias=False,
        )
        self.norm = FrozenBatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        normed: Tensor = self.norm(self.conv(x))
        return normed


class DeepStem(nn.Module):
    """Three 3x3 convolutions, the first with stride 2, and a max pool: stride 4 in total.

    Args:
        width: channels out; the first two convolutions have half as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width // 2, kernel=3, stride=2)
        self.conv2 = ConvNorm(width // 2, width // 2, kernel=3)
        self.conv3 = ConvNorm(width // 2, width, kernel=3)

    def forward(self, pixels_nchw: Tensor) -> Tensor:
        """Map (B, 3, H, W) pixels to (B, width, H/4, W/4)."""
        x = pixels_nchw
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride and the dilation) and 1x1 convolution, with a shortcut.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: stride of the block.
        dilation: dilation of the 3x3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, dilation: int) -> None:
        super().__init__()
        inner = outputs // BOTTLENECK_SHARE
        # if neither size nor channels change, the shortcut is the identity
        self.shortcut = (
            ConvNorm(inputs, outputs, kernel=1, stride=stride) if inputs != outputs else None
        )
        self.conv1 = ConvNorm(inputs, inner, kernel=1)
        self.conv2 = ConvNorm(inner, inner, kernel=3, stride=stride, dilation=dilation)
        self.conv3 = ConvNorm(inner, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)))


class DeepStemResNet(nn.Module):
    """Feature maps at strides 4, 8, 16, 32, one per stage.

    Without pretrained weights the frozen norms do nothing, so this backbone needs weights with
    statistics.

    Args:
        stem_dim: channels of the stem's output.
        dim: channels of the first stage's output; each further stage has twice as many.
        depths: blocks in each stage, at least two stages; 3, 4, 23, 3 is ResNet-101.
    """

    def __init__(self, *, stem_dim: int, dim: int, depths: Sequence[int]) -> None:
        super().__init__()
        self.channels = [dim * 2**stage for stage in range(len(depths))]
        self.stem = DeepStem(stem_dim)
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(depths):
            inputs = self.channels[stage - 1] if stage else stem_dim
            blocks = []
            for index in range(depth):
                dilation = 1
                if stage == len(depths) - 1:
                    dilation = LAST_STAGE_DILATIONS[min(index, len(LAST_STAGE_DILATIONS) - 1)]
                blocks.append(
                    Bottleneck(
                        inputs if index == 0 else self.channels[stage],
                        self.channels[stage],
                        stride=2 if stage and index == 0 else 1,
                        dilation=dilation,
                    )
                )
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, pixels_nchw: Tensor) -> BackboneOutput:
        """Run the backbone.

        Args:
            pixels_nchw: (B, 3, H, W) float, normalized; H and W multiples of 32.

        Returns:
            `feature_maps`: for each stage s, (B, dim * 2^s, H / 2^(s + 2), W / 2^(s + 2)).
        """
        x = self.stem(pixels_nchw)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return BackboneOutput(feature_maps=tuple(maps))

    def freeze(self, parts: int) -> None:
        """Stop gradients to the first parts: 1 is the stem, 2 the stem and the first stage.

        Raises:
            OvsegError: if there are fewer parts.
        """
        every = [self.stem, *self.stages]
        if parts > len(every):
            raise OvsegError(f"frozen_parts is {parts}, but the backbone has {len(every)} parts")
        for module in every[:parts]:
            module.requires_grad_(False)


class DeepStemMaskFormerConfig(MaskFormerConfig):  # type: ignore[misc]
    """The configuration of a MaskFormer, with the arguments of its `DeepStemResNet`."""

    model_type = "ovseg-deep-stem-maskformer"

    deep_stem: dict[str, Any] | None = None


class DeepStemMaskFormer(MaskFormerForInstanceSegmentation):  # type: ignore[misc]
    """MaskFormer on the feature maps of a `DeepStemResNet`.

    Args:
        config: its `backbone_config` is a placeholder for the deep stem: a ResNet with the same
            channels, which is built and discarded.
    """

    config_class = DeepStemMaskFormerConfig
    config: DeepStemMaskFormerConfig

    def __init__(self, config: DeepStemMaskFormerConfig) -> None:
        super().__init__(config)
        self.model.pixel_level_module.encoder = DeepStemResNet(**(config.deep_stem or {}))
