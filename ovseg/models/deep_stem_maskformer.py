"""A closed-vocabulary MaskFormer with a deep-stem ResNet, which `transformers` has not.

Its folder is one of `transformers` in all but the backbone, and of a model type of its own, so that
no other program takes it for a MaskFormer that it can load.
"""

from __future__ import annotations

from typing import Any

from transformers import MaskFormerConfig, MaskFormerForInstanceSegmentation

from ovseg.models.resnet import DeepStemResNet


class DeepStemMaskFormerConfig(MaskFormerConfig):  # type: ignore[misc]
    """That of a MaskFormer, and the arguments of its `DeepStemResNet`."""

    model_type = "ovseg-deep-stem-maskformer"

    deep_stem: dict[str, Any] | None = None


class DeepStemMaskFormer(MaskFormerForInstanceSegmentation):  # type: ignore[misc]
    """MaskFormer on the feature maps of a `DeepStemResNet`.

    Args:
        config: its `backbone_config` holds the place of the deep stem: a ResNet with as many
            channels, which is built and thrown away.
    """

    config_class = DeepStemMaskFormerConfig
    config: DeepStemMaskFormerConfig

    def __init__(self, config: DeepStemMaskFormerConfig) -> None:
        super().__init__(config)
        self.model.pixel_level_module.encoder = DeepStemResNet(**(config.deep_stem or {}))
