"""Segment Anything as proposals: SAM, SAM-HQ and SAM 2 through `transformers`' mask generation.

A name is a folder or a hub id such as `facebook/sam-vit-base` or `facebook/sam2.1-hiera-tiny`. The
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
