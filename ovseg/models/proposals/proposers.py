"""Proposal networks of every kind, by name in `ovseg.config.registry.PROPOSERS`.

    network = proposer("maskformer", "storybook", "cpu", segments="panoptic")
    network.propose([image])

A source gets the name of its weights (`mining.proposals.maskformer`, `benchmarks.maskformer`),
which the classical ones ignore. Mining and the segmentor use the same networks. `segments` names
the post-processing of the queries.
"""

from __future__ import annotations

from collections.abc import Callable

from ovseg.config.registry import PROPOSERS, SEGMENTS, check_name, chosen
from ovseg.models.devices import resolve_device
from ovseg.models.maskformer.load import maskformer_digest
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.proposals.query_segments import segmented, segments_digest

Proposer = Callable[[str, str], ProposalNetwork]
"""Makes a network from the name of its weights and a device; loads it once per process."""


def proposer(
    source: str,
    weights: str,
    device: str = "cpu",
    *,
    segments: str = "queries",
    stage: str = "benchmarks",
) -> ProposalNetwork:
    """Return the configured network.

    Args:
        source: a key of `PROPOSERS`.
        weights: name of its weights.
        device: a torch device, or `auto`.
        segments: a key of `ovseg.config.registry.SEGMENTS`.
        stage: `benchmarks` or `mining.proposals`, for the names of settings in messages.

    Raises:
        OvsegError: if there is no such source, post-processing, weights or device.
    """
    setting = f"{stage}.proposals" if stage == "benchmarks" else f"{stage}.source"
    make = chosen(PROPOSERS, source, setting=setting)
    network = make(weights, resolve_device(device))
    return segmented(network, segments, setting=f"{stage}.segments")


def proposer_digest(
    source: str, weights: str, *, segments: str = "queries", stage: str = "benchmarks"
) -> str:
    """Return the hash (16 hex digits) of weights and post-processing; see `proposer`."""
    if source != "maskformer":
        return proposer(source, weights, segments=segments, stage=stage).digest
    check_name(SEGMENTS, segments, setting=f"{stage}.segments")
    return segments_digest(maskformer_digest(weights), segments)
