"""Post-processing that turns a network's queries into proposals.

`queries` leaves them unchanged, as in the paper. `semantic` merges them by class; `instance` and
`panoptic` ignore classes. These are the post-processings of MaskFormer (Cheng et al., 2021, section
3.4) and Mask2Former (2022) as in `transformers` and the official code. Their masks are binary.
`Segmented` applies one of them to any `ProposalNetwork`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ovseg.config.registry import SEGMENTS, check_name
from ovseg.data import mask_tensors, masks
from ovseg.files.digests import digest_json
from ovseg.models.preprocessing import OWN_SIZE, ImageArray, InputSettings, InputSize
from ovseg.models.proposal import OpenVocabularyNetwork, Output, ProposalNetwork, Proposals

MASK_THRESHOLD = 0.5
SCORE_THRESHOLD = 0.5
"""Panoptic: queries with a lower score are ignored (`transformers`' default; the papers': 0.8)."""
OVERLAP_THRESHOLD = 0.8
"""Panoptic: a query that keeps less than this share of its own mask is dropped."""
NMS_IOU = 0.7
"""Instance: a mask that overlaps a better one by more than this is dropped."""
PIXELS_AT_ONCE = 65536  # of all classes or queries; a whole photo's would be gigabytes


def semantic(queries: Proposals) -> Proposals:
    """Make one mask per class that is the best of any pixel: the pixels whose best class it is.

    A pixel's evidence for a class is the sum over queries of class probability times mask. A mask's
    score is its mean evidence, at most 1; its embedding and class probabilities are the queries'
    means weighted by the probability of the class. Pixels without evidence are in no mask.
    """
    weights_qk = queries.class_probabilities
    if weights_qk is None:
        weights_qk = torch.diag(queries.scores)
    best, evidence = _best(weights_qk, queries.masks)
    classes_r = torch.bincount(best[evidence > 0], minlength=weights_qk.shape[1]).nonzero()[:, 0]
    inside = (best[None] == classes_r[:, None, None]) & (evidence > 0)
    total = (inside * evidence.clamp(max=1)).flatten(1).sum(1)
    share_rq = weights_qk.T[classes_r]
    share_rq = share_rq / share_rq.sum(1, keepdim=True)
    of_class, embedded = queries.class_probabilities, queries.class_embeddings
    return replace(
        queries,
        masks=inside.float(),
        scores=total / inside.flatten(1).sum(1).clamp(min=1),
        class_probabilities=None if of_class is None else share_rq @ of_class,
        class_embeddings=None if embedded is None else share_rq @ embedded,
    )


def instance(queries: Proposals) -> Proposals:
    """Make class-agnostic masks: thresholded, rescored, without those that overlap a better one.

    The score is the query's times the mean of its soft mask inside (Mask2Former's); masks without
    a pixel are dropped. Best first.
    """
    inside = queries.masks > MASK_THRESHOLD
    areas = inside.flatten(1).sum(1)
    mean = (queries.masks * inside).flatten(1).sum(1) / areas.clamp(min=1)
    binary = replace(queries, masks=inside.float(), scores=queries.scores * mean)
    order = binary.scores.argsort(descending=True, stable=True)
    order = order[areas[order] > 0]
    counts = mask_tensors.encode(inside[order])
    size = (queries.masks.shape[1], queries.masks.shape[2])
    drop = masks.suppressed(counts, size, binary.scores[order].tolist(), NMS_IOU)
    return binary.at(order[torch.from_numpy(~drop).to(order.device)])


def panoptic(queries: Proposals) -> Proposals:
    """Make disjoint class-agnostic masks: every pixel goes to the query that scores it highest.

    Among queries with a score above `SCORE_THRESHOLD`, the one with the largest score times mask
    gets the pixel. A query that keeps less than `OVERLAP_THRESHOLD` of its own thresholded mask is
    dropped, and a pixel below the threshold in its winner's mask stays free.
    """
    sure = queries.at((queries.scores > SCORE_THRESHOLD).nonzero()[:, 0])
    if not len(sure.scores):
        return sure
    best, _ = _best(torch.diag(sure.scores), sure.masks)
    won = best[None] == torch.arange(len(sure.scores), device=best.device)[:, None, None]
    own = sure.masks >= MASK_THRESHOLD
    inside = won & own
    own_area, won_area = own.flatten(1).sum(1), won.flatten(1).sum(1)
    stays = (won_area >= OVERLAP_THRESHOLD * own_area) & inside.flatten(1).any(1)
    return replace(sure, masks=inside.float()).at(stays.nonzero()[:, 0])


def _best(weights_qk: Tensor, masks_qhw: Tensor) -> tuple[Tensor, Tensor]:
    """Return every pixel's best column of `weights.T @ masks`, (h, w) int64, and its value."""
    height, width = masks_qhw.shape[1:]
    if not len(masks_qhw):
        flat = masks_qhw.new_zeros(height, width)
        return flat.long(), flat
    parts = [
        (weights_qk.T @ some).max(dim=0)
        for some in torch.split(masks_qhw.flatten(1), PIXELS_AT_ONCE, dim=1)
    ]
    places = torch.cat([part.indices for part in parts])
    values = torch.cat([part.values for part in parts])
    return places.view(height, width), values.view(height, width)


def queries(proposals: Proposals) -> Proposals:
    """Return the queries unchanged."""
    return proposals


# --------------------------------------------------------------------------------------
# Applied to a network


class Segmented:
    """A proposal network whose queries become segments.

    Args:
        network: the network.
        segments: a key of `ovseg.config.registry.SEGMENTS`.
    """

    def __init__(self, network: ProposalNetwork, segments: str) -> None:
        self.network = network
        self.inputs: InputSettings = network.inputs
        self.digest = segments_digest(network.digest, segments)
        self.make = SEGMENTS[segments]
        self.class_names: tuple[str, ...] = getattr(network, "class_names", ())

    @torch.inference_mode()
    def propose(
        self,
        images: Sequence[ImageArray],
        *,
        output: Output = "original",
        size: InputSize = OWN_SIZE,
    ) -> list[Proposals]:
        """See `ProposalNetwork`; an image may end up without any proposal."""
        return [
            self.make(queries) for queries in self.network.propose(images, output=output, size=size)
        ]


class SegmentedOpen(Segmented):
    """The same for an open-vocabulary network: segments have embeddings.

    Args:
        network: the network.
        segments: a key of `ovseg.config.registry.SEGMENTS`.
    """

    def __init__(self, network: OpenVocabularyNetwork, segments: str) -> None:
        super().__init__(network, segments)
        self.embedding_dim = network.embedding_dim
        self.class_logits = network.class_logits


def segmented(network: ProposalNetwork, segments: str, *, setting: str) -> ProposalNetwork:
    """Wrap a network so that its queries become segments.

    Args:
        network: the network.
        segments: a key of `ovseg.config.registry.SEGMENTS`; `queries` returns the network itself.
        setting: the setting that names it, for the message.

    Raises:
        OvsegError: if there is no such post-processing.
    """
    check_name(SEGMENTS, segments, setting=setting)
    if segments == "queries":
        return network
    if isinstance(network, OpenVocabularyNetwork):
        return SegmentedOpen(network, segments)
    return Segmented(network, segments)


def segments_digest(digest: str, segments: str) -> str:
    """Return the digest of a network and its post-processing; `queries` keeps the network's."""
    if segments == "queries":
        return digest
    constants = [MASK_THRESHOLD, SCORE_THRESHOLD, OVERLAP_THRESHOLD, NMS_IOU]
    return digest_json([digest, segments, constants])[:16]
