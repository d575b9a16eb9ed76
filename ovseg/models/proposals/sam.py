"""Segment Anything as proposals: SAM, SAM-HQ and SAM 2 through `transformers`' mask generation.

A name is a folder or a hub id such as `facebook/sam-vit-base` or `facebook/sam2.1-hiera-tiny`. The
network is prompted at a grid of points; uncertain and unstable masks are dropped, then overlapping
ones, as in `transformers` (Kirillov et al., 2023, section 5). A mask's score is the IoU that the
network predicts for it.
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
"""Networks by the `model_type` of their configuration."""
STORYBOOK = re.compile(r"storybook(-\w+)?")
ADVICE = (
    "name a folder, or a hub id that is cached or reachable, such as facebook/sam2.1-hiera-tiny"
)


class Generation(NamedTuple):
    """Settings of the mask generation; the defaults are the published ones.

    Attributes:
        points_per_side: side of the grid of points.
        points_at_once: points per batch, with three masks each; memory grows with it.
        predicted_iou: masks with a lower predicted IoU are dropped.
        stability: masks with a lower IoU between a higher and a lower threshold are dropped.
        nms_iou: a worse mask whose box overlaps by more than this is dropped.
        most: maximum number of masks per image; the best are kept.
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
        network: a network of `FAMILIES`.
        processor: its image processor.
        digest: digest of both.
        device: where it runs.
        generation: settings of the mask generation; defaults to the published ones.
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
        settings = self.generation
        outputs = self._generate(
            Image.fromarray(image),
            points_per_crop=settings.points_per_side,
            points_per_batch=settings.points_at_once,
            pred_iou_thresh=settings.predicted_iou,
            stability_score_thresh=settings.stability,
            crops_nms_thresh=settings.nms_iou,
        )
        if not len(outputs["masks"]):
            return torch.zeros(0, *image.shape[:2]), torch.zeros(0)
        scores = torch.as_tensor(outputs["scores"]).float().cpu().clamp(0, 1)
        order = scores.argsort(descending=True, stable=True)[: settings.most]
        masks = [torch.as_tensor(np.asarray(outputs["masks"][place])) for place in order.tolist()]
        return torch.stack(masks).float(), scores[order]


def load_sam(name: str, device: str = "cpu") -> SamProposals:
    """Load a network by its name, once per process, device and content.

    Args:
        name: folder or hub id.
        device: a torch device, or `auto`.

    Raises:
        OvsegError: if there is no such network, or it is of another kind.
    """
    if STORYBOOK.fullmatch(name):
        raise OvsegError(f"the storybook has no SAM; {ADVICE}")
    return _load(name, resolve_device(device), folder_stamp(Path(name)))


@lru_cache(maxsize=1)
def _load(name: str, device: str, stamp: object) -> SamProposals:
    # the stamp is a cache key: a rewritten folder is read again
    try:
        check_transformers(name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        family = FAMILIES.get(config.model_type)
        if family is None:
            # published SAM 2 checkpoints have the video model's configuration
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
