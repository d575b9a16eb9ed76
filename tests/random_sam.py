"""Small SAMs of random weights: the path from a published folder to masks, without one."""

from typing import Any

import torch
from transformers import Sam2Model, SamModel


def random_sam(family: str, *, seed: int = 0) -> tuple[Any, Any]:
    """A small network with random weights that keeps some of its masks, and its processor.

    It shows that the path works where no weights can be had. Its masks mean nothing: results that
    come of it are *not scored*.

    Args:
        family: `sam` or `sam2`.
        seed: of the weights.
    """
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2ImageProcessor,
        Sam2VisionConfig,
        SamConfig,
        SamImageProcessor,
        SamVisionConfig,
    )
    from transformers.models.sam import SamMaskDecoderConfig, SamPromptEncoderConfig
    from transformers.models.sam2 import Sam2MaskDecoderConfig, Sam2PromptEncoderConfig

    side, width = 128, 32
    decoder: dict[str, Any] = {
        "hidden_size": width,
        "mlp_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "sam":
            network: Any = SamModel(
                SamConfig(
                    vision_config=SamVisionConfig(
                        hidden_size=32,
                        output_channels=width,
                        num_hidden_layers=2,
                        num_attention_heads=2,
                        image_size=side,
                        patch_size=16,
                        window_size=4,
                        global_attn_indexes=[1],
                        num_pos_feats=width // 2,
                        mlp_dim=64,
                        initializer_range=0.02,
                    ),
                    prompt_encoder_config=SamPromptEncoderConfig(
                        hidden_size=width, image_size=side, patch_size=16
                    ),
                    mask_decoder_config=SamMaskDecoderConfig(**decoder),
                )
            )
            processor: Any = SamImageProcessor(
                size={"longest_edge": side}, pad_size={"height": side, "width": side}
            )
        else:
            network = Sam2Model(
                Sam2Config(
                    vision_config=Sam2VisionConfig(
                        backbone_config=Sam2HieraDetConfig(
                            hidden_size=16,
                            num_attention_heads=1,
                            image_size=[side, side],
                            blocks_per_stage=[1, 1, 2, 1],
                            embed_dim_per_stage=[16, 32, 64, 128],
                            num_attention_heads_per_stage=[1, 2, 4, 8],
                            window_size_per_stage=[8, 4, 4, 4],
                            window_positional_embedding_background_size=[4, 4],
                            global_attention_blocks=[3],
                        ),
                        backbone_channel_list=[128, 64, 32, 16],
                        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
                        fpn_hidden_size=width,
                    ),
                    prompt_encoder_config=Sam2PromptEncoderConfig(
                        hidden_size=width, image_size=side, patch_size=16
                    ),
                    mask_decoder_config=Sam2MaskDecoderConfig(**decoder),
                )
            )
            processor = Sam2ImageProcessor(size={"height": side, "width": side})
        decoder_module = network.mask_decoder
        # so that masks pass the published thresholds: sure of themselves, and with steep edges
        torch.nn.init.constant_(decoder_module.iou_prediction_head.proj_out.bias, 4.0)
        for mlp in decoder_module.output_hypernetworks_mlps:
            torch.nn.init.normal_(mlp.proj_out.weight, std=5e4)
    return network.eval(), processor
