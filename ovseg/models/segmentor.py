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
from ovseg.models.segmentation import OpenVocabularySegmentor, Segmentation, shown_classes
from ovseg.models.texts.class_texts import Pooling
from ovseg.models.texts.templates import text_embeddings

Inference = Literal["sum", "best_mask"]


class Segmentor(OpenVocabularySegmentor):
    """Open-vocabulary semantic segmentation.

    Args:
        clip: embeds the names and, in the paper's way, the regions.
        network: proposes them.
        class_names: K names, verbatim.
        prompts: texts that stand for the classes, each with its class's index, where they are
            others than the names. A pixel gets the class of the best text, a mask its classes'
            best texts.
        texts: `(T, E)` embeddings of the names, or of the prompts, if they are at hand already.
        pooling: how several texts of a class are read, see `ovseg.models.texts.class_texts`.
        relations: share of its probability a class lends to those whose texts are like its own.
        size: images are resized to it for both branches.
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
                f"inference is one of {', '.join(get_args(Inference))}, not {inference!r}"
            )
        shown = shown_classes(class_names, prompts)
        if texts is None:
            texts = text_embeddings(clip, [text for text, _ in shown], templates="vild")
        super().__init__(class_names, shown, texts, pooling=pooling, relations=relations)
        self.embedder = CropEmbedder(clip) if embedder is None else embedder
        self.retrieval = retrieval
        self.own = own
        self.network = network
        if isinstance(network, OpenVocabularyNetwork) and own is None:
            width = network.embedding_dim
            if width != self.texts.shape[1] and mode != "clip_only":
                raise OvsegError(
                    f"the MaskFormer's class embeddings have {width} numbers, CLIP's texts"
                    f" {self.texts.shape[1]}: take the CLIP it was trained with, or clip_only"
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
        """The `(C, H, W)` float32 maps whose argmax `segment` takes, all at once."""
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

        Their class probabilities are of the columns of this segmentor's scores; None where nothing
        asks the network for classes.
        """
        (found,) = self.network.propose([image], output="resized", size=self.size)
        masks = found.masks.to(self.texts.device)
        of_class, scores = None, found.scores
        network, own, embeddings = self.network, self.own, found.class_embeddings
        if own is not None and found.class_probabilities is not None:
            p_own = own.probabilities(found.class_probabilities)
            of_class = self.class_texts.shared(p_own[:, self.class_of].to(masks))
            scores = own.p_object(found.class_probabilities).to(masks)
        elif (
            isinstance(network, OpenVocabularyNetwork)
            and embeddings is not None
            and self.mode != "clip_only"
        ):
            logits = network.class_logits(embeddings, self.texts)
            of_class = self.class_texts.probabilities(logits, void=True).to(masks)
            scores = of_class.sum(dim=-1)
        return replace(found, masks=masks, scores=scores, class_probabilities=of_class)

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
            proposals: what `propose` gave.
            named: what `name_masks` says of them.
            size: H and W.
            weight: lambda, as for the segmentor.
        """
        return self._labels(*self._joined(proposals, *named, self._of_columns(weight)), size)

    def _proposals(self, image: ImageArray) -> tuple[Tensor, Tensor]:
        """Class scores `(R, K)` and soft masks `(R, h, w)` of the proposals that take part."""
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
        """What `_proposals` gives, from what both branches said."""
        masks = proposals.masks
        scores, taken = ensemble(
            proposals.class_probabilities,
            p_clip,
            valid,
            weight,
            mode=self.mode,
            p_object_q=proposals.scores,
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

    def _of_columns(self, weight_k: float | Tensor) -> float | Tensor:
        """A weight a class as one a column of the scores."""
        if not isinstance(weight_k, Tensor):
            return weight_k
        if weight_k.shape != (len(self.class_names),):
            raise ValueError(f"{tuple(weight_k.shape)} weights, {len(self.class_names)} classes")
        return weight_k.to(self.texts.device)[list(self.class_of)]
