"""What a segmentor says of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.ensemble import (
    COSINE_SCALE,
    Ensemble,
    aggregate,
    best_masks,
    ensemble,
    label_map,
    resized_maps,
)
from ovseg.models.maskformer.closed_vocabulary import ClosedVocabulary
from ovseg.models.preprocessing import ImageArray
from ovseg.models.proposal import OpenVocabularyNetwork, ProposalNetwork
from ovseg.models.regions.crops import Regions
from ovseg.models.regions.embedders import CropEmbedder, RegionEmbedder
from ovseg.models.regions.memory import Retrieval
from ovseg.models.texts.class_texts import ClassTexts, Pooling, best_of_class
from ovseg.models.texts.templates import text_embeddings


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What the segmentor saw in one image.

    Attributes:
        labels: `(H, W)` int64 class of each pixel; K where no proposal says anything.
        classes: the K class names.
        masks: `(R, h, w)` float32 masks, at the resized size, of the proposals that took part:
            soft ones, or binary ones of `best_mask`.
        probabilities: `(R, C)` float32 scores, one a class unless there are prompts: then one a
            text.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    masks: Tensor
    probabilities: Tensor


Inference = Literal["sum", "best_mask"]
OTHERS = "others"


def name_regions(
    clip: OpenClipModel, regions: Regions, texts: ClassTexts, *, prompts: bool = True
) -> Tensor:
    """The probabilities CLIP gives to regions.

    Args:
        clip: the CLIP.
        regions: V of them, cut for it.
        texts: of the classes.
        prompts: use the mask prompts of a CLIP that has them.

    Returns:
        `(V, C)` float32 of the texts' columns.
    """
    features = clip.encode_regions(regions.pixels, regions.masks, prompts=prompts)
    return texts.probabilities(COSINE_SCALE * features @ texts.embeddings.T)


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """What the MaskFormer proposes of one image, before CLIP has seen it.

    Attributes:
        image: `(h, w, 3)` uint8 RGB, resized.
        masks: `(Q, h, w)` float32 soft masks.
        p_maskformer: `(Q, K)` float32 in 0..1; None where nothing asks the network for classes.
        p_object: `(Q,)` float32, P(any of them), where it is not the sum of `p_maskformer`.
    """

    image: ImageArray
    masks: Tensor
    p_maskformer: Tensor | None
    p_object: Tensor | None = None


class Segmentor:
    """Open-vocabulary semantic segmentation.

    Args:
        clip: embeds the names and, in the paper's way, the regions.
        network: proposes them.
        class_names: K names, verbatim.
        templates: template set of the names, or templates.
        prompts: texts that stand for the classes, each with its class's index, where they are
            others than the names. A pixel gets the class of the best text, a mask its classes'
            best texts.
        texts: `(T, E)` embeddings of the names, or of the prompts, if they are at hand already.
        pooling: how several texts of a class are read, see `ovseg.models.texts.class_texts`.
        relations: share of its probability a class lends to those whose texts are like its own.
        short_side: images are resized to this short side for both branches; None for the
            network's own.
        max_side: but no longer than this; None for the network's own.
        mask_threshold: CLIP is shown the pixels of a proposal above this.
        ensemble_weight: lambda, or a `(K,)` tensor with one a class, as where seen and unseen
            classes differ in how far CLIP is trusted.
        mode: of the ensemble, see `ovseg.models.ensemble.ensemble`.
        inference: `sum` adds up all proposals under their soft masks, as the paper does;
            `best_mask` keeps one binary mask a class, as the official demo does (which has weight
            0 and threshold 0.35): an object in several proposals shows in one of them only, and
            pixels under no kept mask get label K.
        embedder: how regions become embeddings; masked crops of the CLIP where None.
        retrieval: mined regions that vote beside CLIP.
        own: the network's own classes as those of `class_names`; its class scores are those then,
            instead of what its class embeddings say of the texts.

    Raises:
        OvsegError: no class, or a MaskFormer trained for another CLIP's embeddings.
    """

    def __init__(
        self,
        clip: OpenClipModel,
        network: ProposalNetwork,
        *,
        class_names: Sequence[str],
        templates: str | Sequence[str] = "vild",
        prompts: Sequence[tuple[str, int]] = (),
        texts: Tensor | None = None,
        pooling: Pooling = "texts",
        relations: float = 0.0,
        short_side: int | None = None,
        max_side: int | None = None,
        mask_threshold: float = 0.4,
        ensemble_weight: float | Tensor = 0.7,
        mode: Ensemble = "upstream",
        inference: Inference = "sum",
        embedder: RegionEmbedder | None = None,
        retrieval: Retrieval | None = None,
        own: ClosedVocabulary | None = None,
    ) -> None:
        if inference not in get_args(Inference):
            raise OvsegError(
                f"inference is one of {', '.join(get_args(Inference))}, not {inference!r}"
            )
        if not class_names:
            raise OvsegError("there is nothing to look for: name at least one class")
        self.embedder = CropEmbedder(clip) if embedder is None else embedder
        self.retrieval = retrieval
        self.own = own
        self.network = network
        self.class_names = tuple(class_names)
        shown = [text for text, _ in prompts] or [*class_names]
        self.texts = text_embeddings(clip, shown, templates=templates) if texts is None else texts
        if len(self.texts) != len(shown):
            raise ValueError(f"{len(self.texts)} embeddings for {len(shown)} names")
        self.class_texts = ClassTexts(
            embeddings=self.texts,
            class_of=tuple(index for _, index in prompts) or tuple(range(len(shown))),
            classes=len(class_names),
            pooling=pooling,
            relations=relations,
        )
        self.class_of = self.class_texts.columns
        if isinstance(network, OpenVocabularyNetwork) and own is None:
            width = network.embedding_dim
            if width != self.texts.shape[1] and mode != "clip_only":
                raise OvsegError(
                    f"the MaskFormer's class embeddings have {width} numbers, CLIP's texts"
                    f" {self.texts.shape[1]}: take the CLIP it was trained with, or clip_only"
                )
        self.short_side = short_side
        self.max_side = max_side
        self.mask_threshold = mask_threshold
        self.ensemble_weight = self._of_columns(ensemble_weight)
        self.mode = mode
        self.inference = inference

    @torch.no_grad()
    def segment(self, image: ImageArray) -> Segmentation:
        """Segment an image.

        Args:
            image: `(H, W, 3)` uint8 RGB.
        """
        probabilities, masks = self._proposals(image)
        return Segmentation(
            labels=self._labels(probabilities, masks, (image.shape[0], image.shape[1])),
            classes=self.class_names,
            masks=masks,
            probabilities=probabilities,
        )

    @torch.no_grad()
    def class_maps(self, image: ImageArray) -> Tensor:
        """The `(C, H, W)` float32 maps whose argmax `segment` takes, all at once."""
        probabilities, masks = self._proposals(image)
        return resized_maps(aggregate(probabilities, masks), (image.shape[0], image.shape[1]))

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
        probabilities = torch.zeros(len(on_device), len(self.class_of))
        probabilities[valid.cpu()] = p_clip.cpu()
        return best_of_class(probabilities.numpy(), self.class_of, len(self.class_names))

    @torch.no_grad()
    def propose(self, image: ImageArray) -> Proposals:
        """The MaskFormer's branch alone, of an image `(H, W, 3)` uint8 RGB."""
        batch = self.network.propose(
            [image], output="resized", short_side=self.short_side, max_side=self.max_side
        )
        masks = batch.mask_probabilities[0].to(self.texts.device)
        p_maskformer = p_object = None
        network, embeddings = self.network, batch.class_embeddings
        if self.own is not None and batch.class_probabilities is not None:
            p_own = self.own.probabilities(batch.class_probabilities[0])
            p_maskformer = self.class_texts.shared(p_own[:, self.class_of].to(masks))
            p_object = self.own.p_object(batch.class_probabilities[0]).to(masks)
        elif isinstance(network, OpenVocabularyNetwork) and embeddings and self.mode != "clip_only":
            logits = network.class_logits(embeddings[0], self.texts)
            p_maskformer = self.class_texts.probabilities(logits, void=True).to(masks)
        return Proposals(
            image=batch.images[0], masks=masks, p_maskformer=p_maskformer, p_object=p_object
        )

    @torch.no_grad()
    def name_proposals(self, proposed: Proposals, *, threshold: float) -> tuple[Tensor, Tensor]:
        """CLIP's branch alone: `(V, K)` of the proposals with a pixel above, `(Q,)` which have."""
        return self._clip_branch(proposed.image, proposed.masks, threshold)

    @torch.no_grad()
    def segment_named(
        self,
        proposed: Proposals,
        named: tuple[Tensor, Tensor],
        *,
        size: tuple[int, int],
        weight: float | Tensor,
    ) -> NDArray[np.int64]:
        """The `(H, W)` labels of `segment` at any weight, from what `propose` and CLIP said."""
        return self._labels(*self._joined(proposed, *named, self._of_columns(weight)), size)

    def _proposals(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Class scores `(R, K)` and soft masks `(R, h, w)` of the proposals that take part."""
        proposed = self.propose(image)
        masks = proposed.masks
        if self.mode == "maskformer_only":
            valid = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
            p_clip = masks.new_zeros(0, len(self.class_of))
        else:
            p_clip, valid = self.name_proposals(proposed, threshold=self.mask_threshold)
        return self._joined(proposed, p_clip, valid, self.ensemble_weight)

    def _joined(
        self, proposed: Proposals, p_clip: Tensor, valid: Tensor, weight: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `_proposals` gives, from what both branches said."""
        masks = proposed.masks
        scores, taken = ensemble(
            proposed.p_maskformer,
            p_clip,
            valid,
            weight,
            mode=self.mode,
            p_object_q=proposed.p_object,
        )
        if self.inference == "sum":
            return scores, masks[taken]
        if self.mode == "maskformer_only":
            valid = (masks > self.mask_threshold).flatten(1).any(dim=1)
        return best_masks(
            scores,
            masks[taken],
            valid[taken],
            threshold=self.mask_threshold,
            skip_last=self.class_names[1:] == (OTHERS,),  # what is added to a single name
        )

    def _labels(
        self, probabilities: Tensor, masks: Tensor, size: tuple[int, int]
    ) -> NDArray[np.int64]:
        """The label map `(H, W)` of class scores and masks; K where no proposal says anything."""
        if not len(probabilities):
            return np.full(size, len(self.class_names), dtype=np.int64)
        # soft masks are nowhere 0; binary ones, of segments or superpixels, may leave pixels free
        best = label_map(probabilities, masks, size, empty=len(self.class_of)).cpu().numpy()
        labels: NDArray[np.int64] = np.array([*self.class_of, len(self.class_names)])[best]
        return labels

    def _clip_branch(
        self, image: ImageArray, masks_qhw: Tensor, threshold: float | None
    ) -> tuple[Tensor, Tensor]:
        """CLIP's `(V, C)` probabilities of the valid masks, and `(Q,)` which are valid."""
        features, valid = self.embedder.embed(image, masks_qhw, threshold=threshold)
        p_clip = self.class_texts.probabilities(COSINE_SCALE * features @ self.texts.T)
        if self.retrieval is not None:
            p_clip = self.retrieval.join(p_clip, features)
        return p_clip, valid

    def _of_columns(self, weight_k: float | Tensor) -> float | Tensor:
        """A weight a class as one a column of the scores."""
        if not isinstance(weight_k, Tensor):
            return weight_k
        if weight_k.shape != (len(self.class_names),):
            raise ValueError(f"{tuple(weight_k.shape)} weights, {len(self.class_names)} classes")
        return weight_k.to(self.texts.device)[list(self.class_of)]
