"""Segment Anything as proposals: SAM, SAM-HQ and SAM 2 through `transformers`' mask generation.

A name is a folder or a hub id such as `facebook/sam-vit-base` or `facebook/sam2.1-hiera-tiny`;
`random-sam` and `random-sam2` are small networks of random weights, to prove the path. The
network is asked at a grid of points; what it is not sure of or what is not stable goes, then what
overlaps: all as `transformers` has it (Kirillov et al., 2023, section 5). A mask's score is the IoU
that the network predicts for it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    Sam2Model,
    SamHQModel,
    SamModel,
    pipeline,
)

from ovseg.errors import OvsegError
from ovseg.models.devices import resolve_device
from ovseg.models.preprocessing import ImageArray
from ovseg.models.proposals.per_image import ImageProposals
from ovseg.models.weights.files import check_finite
from ovseg.models.weights.folders import content_digest, folder_stamp
from ovseg.models.weights.settings_files import check_folder, check_transformers

FAMILIES: dict[str, Any] = {"sam": SamModel, "sam_hq": SamHQModel, "sam2": Sam2Model}
"""By the `model_type` of a configuration."""
RANDOM = {"random-sam": "sam", "random-sam2": "sam2"}
"""Families of the random networks, by name."""
STORYBOOK = re.compile(r"storybook(-\w+)?")
ADVICE = (
    "name a folder, or a hub id that is cached or can be reached, as facebook/sam2.1-hiera-tiny"
)


class Generation(NamedTuple):
    """What is asked and what is kept; the defaults are the published ones.

    Attributes:
        points_per_side: of the grid of points.
        points_at_once: with three masks each; memory grows with it.
        predicted_iou: less sure masks go.
        stability: masks go whose IoU between a higher and a lower threshold is less.
        nms_iou: of boxes; a worse mask whose box overlaps more goes.
        most: masks an image; the surest stay.
    """

    points_per_side: int = 32
    points_at_once: int = 16
    predicted_iou: float = 0.88
    stability: float = 0.95
    nms_iou: float = 0.7
    most: int = 100


class SamProposals(ImageProposals):
    """Masks of a promptable network at a grid of points.

    Args:
        network: of `FAMILIES`.
        processor: its image processor.
        digest: of both.
        device: where it runs.
        generation: what is asked and kept; the published way where None.
    """

    def __init__(
        self,
        network: Any,
        processor: Any,
        *,
        digest: str,
        device: str,
        generation: Generation | None = None,
    ) -> None:
        super().__init__(digest=digest)
        self.generation = generation or Generation()
        self.network = network.eval()
        self._generate = pipeline(
            "mask-generation", model=self.network, image_processor=processor, device=device
        )

    def masks_of(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """See `ImageProposals`."""
        asked = self.generation
        found = self._generate(
            Image.fromarray(image),
            points_per_crop=asked.points_per_side,
            points_per_batch=asked.points_at_once,
            pred_iou_thresh=asked.predicted_iou,
            stability_score_thresh=asked.stability,
            crops_nms_thresh=asked.nms_iou,
        )
        if not len(found["masks"]):
            return torch.zeros(0, *image.shape[:2]), torch.zeros(0)
        scores = torch.as_tensor(found["scores"]).float().cpu().clamp(0, 1)
        order = scores.argsort(descending=True, stable=True)[: asked.most]
        masks = [torch.as_tensor(np.asarray(found["masks"][place])) for place in order.tolist()]
        return torch.stack(masks).float(), scores[order]


def load_sam(name: str, device: str = "cpu") -> SamProposals:
    """A network by its name; loaded once a process, device and content.

    Args:
        name: folder or hub id.
        device: a torch device, or `auto`.

    Raises:
        OvsegError: there is none, or it is of another kind.
    """
    if STORYBOOK.fullmatch(name):
        raise OvsegError(f"there is no SAM of the storybook; {ADVICE}")
    return _load(name, resolve_device(device), folder_stamp(Path(name)))


@lru_cache(maxsize=1)
def _load(name: str, device: str, stamp: object) -> SamProposals:
    # the stamp is part of the key only: a folder that was written again is read again
    if name in RANDOM:
        network, processor = random_sam(RANDOM[name])
        return _proposals(network, processor, device, Generation(points_per_side=4))
    try:
        check_transformers(name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        family = FAMILIES.get(config.model_type)
        if family is None:
            # the video model's configuration is what published SAM 2 checkpoints carry
            family = Sam2Model if config.model_type == "sam2_video" else None
        if family is None:
            raise OvsegError(f"{name} is a {config.model_type} model, not a SAM; {ADVICE}")
        check_folder(name, family)
        network = family.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True if Path(name).is_dir() else None
        )
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except OvsegError:
        raise
    except Exception as error:  # transformers, torch and safetensors raise their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OvsegError(f"SAM {name!r} cannot be loaded ({reason}); {ADVICE}") from error
    check_finite(network.state_dict(), name)
    return _proposals(network, processor, device, Generation())


def _proposals(network: Any, processor: Any, device: str, generation: Generation) -> SamProposals:
    settings = {
        "config": network.config.to_dict(),
        "processor": json.loads(processor.to_json_string()),
        "generation": generation._asdict(),
    }
    settings["config"].pop("transformers_version", None)
    settings["config"].pop("_name_or_path", None)
    del settings["generation"]["points_at_once"]
    digest = content_digest(settings, network.state_dict())
    return SamProposals(
        network.to(device), processor, digest=digest, device=device, generation=generation
    )


# --------------------------------------------------------------------------------------
# Without published weights


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
