"""The two-stage segmentor: a MaskFormer proposes masks, CLIP names what lies under them.

    segmentor = Segmentor(clip, network, class_names=["moon", "tree"])
    labels = segmentor.segment(image).labels

The order of operations is that of the paper (OVSeg, CVPR 2023, section 3) and its official
implementation, to the constants: both branches have temperature 100, soft masks weigh the class
probabilities of the proposals, and the label map is decided at the original resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ovseg.errors import OvsegError
from ovseg.models.mask_prompts import MaskAdaptedCLIP
from ovseg.models.maskformer import OpenMaskFormer, ProposalNetwork
from ovseg.models.pixels import ImageArray
from ovseg.models.prompts import text_embeddings
from ovseg.models.regions import Regions, region_crops

COSINE_SCALE = 100.0  # of CLIP too: its learned logit scale is not used for inference
SCORE_BUDGET = 2**26  # numbers a class map may hold at once: 256 MiB of float32

Ensemble = Literal["upstream", "geometric", "clip_only", "maskformer_only"]


# --------------------------------------------------------------------------------------
# The formulas


def ensemble(
    p_maskformer_qk: Tensor | None,
    p_clip_vk: Tensor,
    valid_q: Tensor,
    weight: float,
    *,
    mode: Ensemble = "upstream",
) -> tuple[Tensor, Tensor]:
    """Join what the two branches say of each proposal.

    `p = p_maskformer^(1 - weight) * p_clip^weight`, not normalised, with `p_clip = 1` for a
    proposal that has no pixel above the threshold, which CLIP therefore never saw.

    Args:
        p_maskformer_qk: `(Q, K)` float in 0..1; None for a network with a vocabulary of its own.
        p_clip_vk: `(V, K)` float in 0..1, of the valid proposals in order.
        valid_q: `(Q,)` bool with V true entries.
        weight: lambda, 0..1.
        mode: `upstream` as the official implementation: the formula, but weight 0 is CLIP alone
            over the valid proposals; `geometric` the formula for every weight, so that 0 is
            MaskFormer alone; `clip_only` and `maskformer_only` whatever the weight. A network with
            a vocabulary of its own always leaves it to CLIP.

    Returns:
        `(R, K)` class scores of the R proposals that take part, and `(Q,)` bool saying which.

    Raises:
        OvsegError: `maskformer_only` of a network with a vocabulary of its own.
        ValueError: shapes or mode that do not fit.
    """
    if mode not in get_args(Ensemble):
        raise ValueError(f"mode is one of {', '.join(get_args(Ensemble))}, not {mode!r}")
    if not 0 <= weight <= 1:
        raise ValueError(f"the ensemble weight is within 0..1, not {weight}")
    if len(p_clip_vk) != int(valid_q.sum()):
        raise ValueError(f"{len(p_clip_vk)} rows of CLIP for {int(valid_q.sum())} valid proposals")
    if p_maskformer_qk is None:
        if mode == "maskformer_only":
            raise OvsegError(
                "this MaskFormer has a vocabulary of its own and cannot score other classes:"
                " use one with class embeddings, or another ensemble"
            )
        return p_clip_vk, valid_q
    if mode == "maskformer_only":
        return p_maskformer_qk, torch.ones_like(valid_q)
    if mode == "clip_only" or (mode == "upstream" and weight == 0):
        return p_clip_vk, valid_q
    p_clip_qk = torch.ones_like(p_maskformer_qk)
    p_clip_qk[valid_q] = p_clip_vk.to(p_clip_qk)
    return p_maskformer_qk ** (1 - weight) * p_clip_qk**weight, torch.ones_like(valid_q)


def name_regions(
    clip: MaskAdaptedCLIP, regions: Regions, texts_ke: Tensor, *, prompts: bool = True
) -> Tensor:
    """The class probabilities CLIP gives to regions: a softmax over the K classes.

    Args:
        clip: the CLIP.
        regions: V of them, cut for it.
        texts_ke: `(K, E)` embeddings of the class names, L2 norm 1.
        prompts: use the mask prompts of a CLIP that has them.

    Returns:
        `(V, K)` float32.
    """
    features = clip.encode_regions(regions.pixels, regions.masks, prompts=prompts)
    return (COSINE_SCALE * features @ texts_ke.T).softmax(-1)


def aggregate(p_qk: Tensor, masks_qhw: Tensor) -> Tensor:
    """Class maps: the proposals' class scores summed under their soft masks, `(K, h, w)`."""
    return torch.einsum("qk,qhw->khw", p_qk, masks_qhw)


def label_map(
    p_qk: Tensor, masks_qhw: Tensor, size: tuple[int, int], *, budget: int = SCORE_BUDGET
) -> Tensor:
    """The best class of every pixel at the original size, without holding all class maps.

    Args:
        p_qk: `(Q, K)` class scores; Q may be 0.
        masks_qhw: `(Q, h, w)` soft masks in 0..1.
        size: original (H, W); class maps are resized bilinearly before the decision.
        budget: class maps are made for as many classes at once as fit this many numbers.

    Returns:
        `(H, W)` int64; the first of equal classes.
    """
    pixels = max(size[0] * size[1], masks_qhw.shape[1] * masks_qhw.shape[2])
    step = max(1, budget // pixels)
    best = labels = None
    for start in range(0, p_qk.shape[1], step):
        maps = aggregate(p_qk[:, start : start + step], masks_qhw)
        if maps.shape[1:] != size:
            maps = F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
        top, index = maps.max(dim=0)
        if best is None or labels is None:
            best, labels = top, index
        else:
            better = top > best  # strictly: of equal classes the first stays
            best = torch.where(better, top, best)
            labels = torch.where(better, index + start, labels)
    if labels is None:
        raise ValueError("there is no class to choose")
    return labels


# --------------------------------------------------------------------------------------
# The segmentor


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What the segmentor saw in one image.

    Attributes:
        labels: `(H, W)` int64 class of each pixel; K where no proposal says anything.
        classes: the K class names.
        masks: `(R, h, w)` float32 soft masks, at the resized size, of the proposals that took part.
        probabilities: `(R, K)` float32 class scores of those.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    masks: Tensor
    probabilities: Tensor


class Segmentor:
    """Open-vocabulary semantic segmentation.

    Args:
        clip: names the regions.
        network: proposes them.
        class_names: K names, verbatim.
        templates: template set of the names, or templates.
        texts: `(K, E)` embeddings of the names if they are at hand already.
        short_side: images are resized to this short side for both branches; None for the
            network's own.
        max_side: but no longer than this; None for the network's own.
        mask_threshold: CLIP is shown the pixels of a proposal above this.
        ensemble_weight: lambda.
        mode: of the ensemble, see `ensemble`.
        mask_prompts: use the mask prompts of a CLIP that has them.
        fill: colour of masked-out pixels, `mean` or `zero`.
        expand_ratio: crop box enlargement.
        batch_size: regions CLIP sees at once.

    Raises:
        OvsegError: no class, or a MaskFormer trained for another CLIP's embeddings.
    """

    def __init__(
        self,
        clip: MaskAdaptedCLIP,
        network: ProposalNetwork,
        *,
        class_names: Sequence[str],
        templates: str | Sequence[str] = "vild",
        texts: Tensor | None = None,
        short_side: int | None = None,
        max_side: int | None = None,
        mask_threshold: float = 0.4,
        ensemble_weight: float = 0.7,
        mode: Ensemble = "upstream",
        mask_prompts: bool = True,
        fill: str = "mean",
        expand_ratio: float = 1.0,
        batch_size: int = 256,
    ) -> None:
        if not class_names:
            raise OvsegError("there is nothing to look for: name at least one class")
        self.clip = clip
        self.network = network
        self.class_names = tuple(class_names)
        self.texts = (
            text_embeddings(clip, class_names, templates=templates) if texts is None else texts
        )
        if len(self.texts) != len(self.class_names):
            raise ValueError(f"{len(self.texts)} embeddings for {len(self.class_names)} names")
        if isinstance(network, OpenMaskFormer):
            width = network.network.architecture.embedding_dim
            if width != self.texts.shape[1] and mode != "clip_only":
                raise OvsegError(
                    f"the MaskFormer's class embeddings have {width} numbers, CLIP's texts"
                    f" {self.texts.shape[1]}: take the CLIP it was trained with, or clip_only"
                )
        self.short_side = short_side
        self.max_side = max_side
        self.mask_threshold = mask_threshold
        self.ensemble_weight = ensemble_weight
        self.mode = mode
        self.mask_prompts = mask_prompts
        self.fill = fill
        self.expand_ratio = expand_ratio
        self.batch_size = batch_size

    @torch.no_grad()
    def segment(self, image: ImageArray) -> Segmentation:
        """Segment an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.
        """
        probabilities, masks = self._proposals(image)
        size = (image.shape[0], image.shape[1])
        if len(probabilities):
            labels = label_map(probabilities, masks, size).cpu().numpy()
        else:
            labels = np.full(size, len(self.class_names), dtype=np.int64)
        return Segmentation(
            labels=labels, classes=self.class_names, masks=masks, probabilities=probabilities
        )

    @torch.no_grad()
    def class_maps(self, image: ImageArray) -> Tensor:
        """The `(K, H, W)` float32 maps whose argmax `segment` takes, all at once."""
        probabilities, masks = self._proposals(image)
        maps = aggregate(probabilities, masks)[None]
        return F.interpolate(maps, size=image.shape[:2], mode="bilinear", align_corners=False)[0]

    @torch.no_grad()
    def classify_masks(
        self, image: ImageArray, masks_qhw: NDArray[np.bool_] | Tensor
    ) -> NDArray[np.float32]:
        """Name given masks, with CLIP alone.

        Args:
            image: `(H, W, 3)` uint8 RGB.
            masks_qhw: `(Q, H, W)` bool; Q may be 0.

        Returns:
            `(Q, K)` float32 probabilities; a row of zeros for a mask without a pixel.
        """
        on_device = torch.as_tensor(masks_qhw).to(self.texts.device)
        p_clip, valid = self._clip_branch(image, on_device, threshold=None)
        probabilities = torch.zeros(len(on_device), len(self.class_names))
        probabilities[valid.cpu()] = p_clip.cpu()
        return probabilities.numpy()

    def _proposals(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Class scores `(R, K)` and soft masks `(R, h, w)` of the proposals that take part."""
        batch = self.network.propose(
            [image], output="resized", short_side=self.short_side, max_side=self.max_side
        )
        masks = batch.mask_probabilities[0].to(self.texts.device)
        p_maskformer = None
        network, embeddings = self.network, batch.class_embeddings
        if isinstance(network, OpenMaskFormer) and embeddings and self.mode != "clip_only":
            logits = network.class_logits(embeddings[0], self.texts)
            # the non-object column takes part in the softmax and is dropped after it
            p_maskformer = logits.softmax(-1)[:, :-1].to(masks)
        if self.mode == "maskformer_only":
            valid = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
            p_clip = masks.new_zeros(0, len(self.class_names))
        else:
            p_clip, valid = self._clip_branch(batch.images[0], masks, self.mask_threshold)
        scores, taken = ensemble(p_maskformer, p_clip, valid, self.ensemble_weight, mode=self.mode)
        return scores, masks[taken]

    def _clip_branch(
        self, image: ImageArray, masks_qhw: Tensor, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """CLIP's `(V, K)` probabilities of the valid masks, and `(Q,)` which are valid."""
        rows, valid = [], []
        pixels_hwc = torch.tensor(image)
        # in batches from the crops on: hundreds of regions of 224 x 224 would fill the memory
        for part in torch.split(masks_qhw, self.batch_size):
            regions = region_crops(
                pixels_hwc,
                part,
                size=self.clip.image_size,
                mean=self.clip.pixel_mean,
                std=self.clip.pixel_std,
                threshold=threshold,
                fill=self.fill,
                expand_ratio=self.expand_ratio,
            )
            rows.append(name_regions(self.clip, regions, self.texts, prompts=self.mask_prompts))
            valid.append(regions.valid)
        return torch.cat(rows), torch.cat(valid)
