"""The two-stage segmentor: a network proposes masks, CLIP names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.config.segmenting import OTHERS
from ovseg.errors import OvsegError
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.ensemble import (
    Ensemble,
    aggregate,
    best_masks,
    ensemble,
    label_map,
    resized_maps,
)
from ovseg.models.maskformer.closed_vocabulary import ClosedVocabulary
from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSize
from ovseg.models.proposal import OpenVocabularyNetwork, ProposalNetwork, Proposals
from ovseg.models.regions.embedders import CropEmbedder, RegionEmbedder
from ovseg.models.regions.memory import Retrieval
from ovseg.models.reuse import reused
from ovseg.models.segmentation import OpenVocabularySegmentor, Segmentation, shown_classes
from ovseg.models.texts.class_texts import Pooling
from ovseg.models.texts.templates import text_embeddings

Inference = Literal["sum", "best_mask"]


class Segmentor(OpenVocabularySegmentor):
    """Open-vocabulary semantic segmentation.

    Args:
        clip: embeds the names and, by default, the regions.
        network: proposes masks.
        class_names: K names, verbatim.
        prompts: texts of the classes, each with its class's index; defaults to the names. A pixel
            gets the class of the best text, a mask each class's best text.
        texts: `(T, E)` embeddings of the names or prompts, if already computed.
        pooling: how several texts of a class are combined, see `ovseg.models.texts.class_texts`.
        relations: share of its probability that a class lends to classes with similar texts.
        size: size to which images are resized for both branches.
        mask_threshold: CLIP sees a proposal's pixels above this.
        ensemble_weight: lambda, or a `(K,)` tensor with one per class, for example to trust CLIP
            differently for seen and unseen classes.
        mode: mode of the ensemble, see `ovseg.models.ensemble.ensemble`.
        inference: `sum` adds up all proposals under their soft masks, as in the paper;
            `best_mask` keeps one binary mask per class, as in the official demo (with weight 0 and
            threshold 0.35): an object in several proposals appears in only one of them, and pixels
            outside all kept masks get label K.
        embedder: embeds regions; defaults to masked crops with the CLIP.
        retrieval: mined regions that vote in addition to CLIP.
        own: the mapping from the network's own classes to `class_names`; class scores then come
            from its classes instead of its class embeddings.

    Raises:
        OvsegError: if there is no class, or the MaskFormer was trained for another CLIP's
            embeddings.
    """

    def __init__(
        self,
        clip: OpenClipModel,
        network: ProposalNetwork,
        *,
        class_names: Sequence[str],
        prompts: Sequence[tuple[str, int]] = (),
        texts: Tensor | None = None,
        pooling: Pooling = "texts",
        relations: float = 0.0,
        size: InputSize = OWN_SIZE,
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
                f"inference must be one of {', '.join(get_args(Inference))}, not {inference!r}"
            )
        class_prompts = shown_classes(class_names, prompts)
        if texts is None:
            texts = text_embeddings(clip, [text for text, _ in class_prompts], templates="vild")
        super().__init__(class_names, class_prompts, texts, pooling=pooling, relations=relations)
        self.embedder = CropEmbedder(clip) if embedder is None else embedder
        self.retrieval = retrieval
        self.own = own
        self.network = network
        if isinstance(network, OpenVocabularyNetwork) and own is None:
            width = network.embedding_dim
            if width != self.texts.shape[1] and mode != "clip_only":
                raise OvsegError(
                    f"the MaskFormer's class embeddings have {width} numbers, CLIP's texts"
                    f" {self.texts.shape[1]}: use the CLIP it was trained with, or clip_only"
                )
        self.size = size
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
        """Return the `(C, H, W)` float32 maps whose argmax `segment` takes, all at once."""
        probabilities, masks = self._proposals(image)
        return resized_maps(aggregate(probabilities, masks), (image.shape[0], image.shape[1]))

    @torch.no_grad()
    def name_masks(
        self, image: ImageArray, masks_qhw: Tensor, *, threshold: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Name masks with CLIP; soft ones by their pixels above a threshold.

        See `OpenVocabularySegmentor.name_masks`.
        """
        features, valid = self.embedder.embed(image, masks_qhw, threshold=threshold)
        p_clip = self.class_texts.classify(features)
        if self.retrieval is not None:
            p_clip = self.retrieval.join(p_clip, features)
        return p_clip, valid

    @torch.no_grad()
    def propose(self, image: ImageArray) -> Proposals:
        """Propose masks of an image `(H, W, 3)` uint8 RGB, before CLIP has seen it.

        Their class probabilities have the columns of this segmentor's scores; None if the network's
        classes are not used.
        """
        network = self.network
        (proposals,) = reused(
            ("proposals", network.digest, self.size, str(self.texts.device)),
            (image,),
            lambda: network.propose([image], output="resized", size=self.size),
        )
        masks = proposals.masks.to(self.texts.device)
        of_class, scores = None, proposals.scores
        own, embeddings = self.own, proposals.class_embeddings
        if own is not None and proposals.class_probabilities is not None:
            p_own = own.probabilities(proposals.class_probabilities)
            of_class = self.class_texts.shared(p_own[:, self.class_of].to(masks))
            scores = own.p_object(proposals.class_probabilities).to(masks)
        elif (
            isinstance(network, OpenVocabularyNetwork)
            and embeddings is not None
            and self.mode != "clip_only"
        ):
            logits = network.class_logits(embeddings, self.texts)
            of_class = self.class_texts.probabilities(logits, void=True).to(masks)
            scores = of_class.sum(dim=-1)
        return replace(proposals, masks=masks, scores=scores, class_probabilities=of_class)

    @torch.no_grad()
    def segment_named(
        self,
        proposals: Proposals,
        named: tuple[Tensor, Tensor],
        *,
        size: tuple[int, int],
        weight: float | Tensor,
    ) -> NDArray[np.int64]:
        """Return the `(H, W)` labels of `segment` at any weight.

        Args:
            proposals: result of `propose`.
            named: result of `name_masks` for them.
            size: H and W.
            weight: lambda, as for the segmentor.
        """
        return self._labels(*self._joined(proposals, *named, self._of_columns(weight)), size)

    def _proposals(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Return class scores `(R, C)` and soft masks `(R, h, w)` of the proposals used."""
        proposals = self.propose(image)
        masks = proposals.masks
        if self.mode == "maskformer_only":
            valid = torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
            p_clip = masks.new_zeros(0, len(self.class_of))
        else:
            p_clip, valid = self.name_masks(proposals.image, masks, threshold=self.mask_threshold)
        return self._joined(proposals, p_clip, valid, self.ensemble_weight)

    def _joined(
        self, proposals: Proposals, p_clip: Tensor, valid: Tensor, weight: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Combine both branches into the result of `_proposals`."""
        masks = proposals.masks
        scores, used = ensemble(
            proposals.class_probabilities,
            p_clip,
            valid,
            weight,
            mode=self.mode,
            p_object_q=proposals.scores,
        )
        if self.inference == "sum":
            return scores, masks[used]
        if self.mode == "maskformer_only":
            valid = (masks > self.mask_threshold).flatten(1).any(dim=1)
        return best_masks(
            scores,
            masks[used],
            valid[used],
            threshold=self.mask_threshold,
            skip_last=self.class_names[1:] == (OTHERS,),  # added to a single name
        )

    def _labels(
        self, probabilities: Tensor, masks: Tensor, size: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Return the label map `(H, W)` of class scores and masks; K where there is no proposal."""
        if not len(probabilities):
            return np.full(size, len(self.class_names), dtype=np.int64)
        # soft masks are never 0; binary ones, from segments or superpixels, may leave pixels free
        best = label_map(probabilities, masks, size, empty=len(self.class_of)).cpu().numpy()
        labels: NDArray[np.int64] = np.array([*self.class_of, len(self.class_names)])[best]
        return labels

    def _of_columns(self, weight_k: float | Tensor) -> float | Tensor:
        """Convert weights per class to weights per column of the scores."""
        if not isinstance(weight_k, Tensor):
            return weight_k
        if weight_k.shape != (len(self.class_names),):
            raise ValueError(f"{tuple(weight_k.shape)} weights for {len(self.class_names)} classes")
        return weight_k.to(self.texts.device)[list(self.class_of)]
