"""Sources of proposals: `ovseg.config.registry.SOURCES`, chosen by `mining.proposals.source`.

A source sees an image and its row of the images table, so one source may propose a network's masks
and another the ground truth of that image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ovseg.config.mining import ProposalsConfig
from ovseg.config.registry import SOURCES, chosen
from ovseg.data import mask_tensors
from ovseg.data.images import ImageArray
from ovseg.data.rle import Size
from ovseg.mining.proposals.source import EncodedProposals, ImageMasks, ProposalSource
from ovseg.models.devices import autocast, model_label, resolve_device
from ovseg.models.preprocessing import InputSize, ResizedAhead, resized_shape
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.proposals.proposers import proposer, proposer_digest

QUERIES_AT_ONCE = 16  # enlarged to an image's own size; 12 MP take 50 MB per query


class PreparedImages(NamedTuple):
    """Images of a batch, and the size that holds them resized."""

    images: list[ImageArray]
    size: InputSize


class NetworkSource:
    """The masks of a network of `ovseg.config.registry.PROPOSERS`."""

    def __init__(self, config: ProposalsConfig) -> None:
        self.config = config

    @cached_property
    def network(self) -> ProposalNetwork:
        """The network on its device; loaded once per process."""
        config = self.config
        return proposer(
            config.source,
            config.maskformer,
            config.device,
            segments=config.segments,
            stage="mining.proposals",
        )

    @property
    def label(self) -> str:
        """The network's name and digest; the source's name if it is not a MaskFormer."""
        source = self.config.source
        name = self.config.maskformer if source == "maskformer" else source
        return model_label(name, self.network.digest)

    @property
    def weights(self) -> dict[str, str]:
        """The digest of the network."""
        config = self.config
        digest = proposer_digest(
            config.source, config.maskformer, segments=config.segments, stage="mining.proposals"
        )
        return {"maskformer": digest}

    def propose(
        self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]
    ) -> list[EncodedProposals]:
        """See `ProposalSource`."""
        return network_masks(self.network, [image for _, image in batch], self.config)

    def prepare(self, batch: Sequence[tuple[Mapping[str, Any], ImageArray]]) -> PreparedImages:
        """See `MaskSource`: resize the images."""
        images = [image for _, image in batch]
        size = InputSize(self.config.short_side, self.config.max_side)
        return PreparedImages(images, ResizedAhead.of(size, images, self.network.inputs))

    def binary_masks(self, prepared: PreparedImages) -> Iterator[ImageMasks]:
        """See `MaskSource`."""
        return binary_masks(self.network, prepared.images, self.config, size=prepared.size)


def proposal_source(config: ProposalsConfig) -> ProposalSource:
    """Return the configured source.

    Raises:
        OvsegError: if there is no source of that name.
    """
    return chosen(SOURCES, config.source, setting="mining.proposals.source")(config)


# --------------------------------------------------------------------------------------
# Masks of a network


def network_masks(
    network: ProposalNetwork, images: Sequence[ImageArray], config: ProposalsConfig
) -> list[EncodedProposals]:
    """Propose masks for images, encoded at the images' own size; see `binary_masks`."""
    encoded = [EncodedProposals((), ())] * len(images)
    for place, scores, parts in binary_masks(network, images, config):
        counts = [one for part_qhw in parts for one in mask_tensors.encode(part_qhw)]
        encoded[place] = EncodedProposals(counts, scores)
    return encoded


def binary_masks(
    network: ProposalNetwork,
    images: Sequence[ImageArray],
    config: ProposalsConfig,
    *,
    size: InputSize | None = None,
) -> Iterator[ImageMasks]:
    """Propose masks for images, binary at the images' own size.

    The network's soft masks are taken at its input size or the image's own size, whichever is
    smaller, so that memory does not grow with the image; smaller masks are enlarged bilinearly.

    Args:
        network: the proposal network.
        images: (H_i, W_i, 3) uint8 RGB.
        config: input sizes and mask threshold.
        size: the input sizes, if they hold the images already resized; defaults to those of
            `config`.

    Yields:
        The masks of each image, in the order in which they are computed.
    """
    size = size or InputSize(config.short_side, config.max_side)
    shrunk = []
    for image in images:
        height, width = image.shape[:2]
        input_height, input_width = resized_shape(height, width, config.short_side, config.max_side)
        shrunk.append(input_height * input_width < height * width)
    for small in (False, True):
        places = [place for place, is_small in enumerate(shrunk) if is_small == small]
        with autocast(resolve_device(config.device), config.precision):
            proposals = network.propose(
                [images[place] for place in places],
                output="resized" if small else "original",
                size=size,
            )
        for place, batch in zip(places, proposals, strict=True):
            height, width = images[place].shape[:2]
            parts = _binary(batch.masks, (height, width), config.mask_threshold)
            yield ImageMasks(place, batch.scores.float().cpu().tolist(), parts)


def _binary(soft_qhw: Tensor, size: Size, threshold: float) -> Iterator[Tensor]:
    for some in torch.split(soft_qhw, QUERIES_AT_ONCE):
        with torch.inference_mode():
            some = some.float()
            if some.shape[1:] != size:
                some = F.interpolate(some[None], size=size, mode="bilinear", align_corners=False)[0]
            binary = some > threshold
        yield binary
