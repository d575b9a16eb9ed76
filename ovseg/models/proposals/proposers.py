"""Proposal networks of every kind: `ovseg.config.registry.PROPOSERS`, here and elsewhere.

    network = proposer("maskformer", "storybook", "cpu", segments="panoptic")
    network.propose([image])

A source is given the name of its weights (`mining.proposals.maskformer`,
`benchmarks.maskformer`), which
the classical ones leave aside. Mining and the segmentor have the same networks. `segments` says
what becomes of the queries.
"""

from __future__ import annotations

from collections.abc import Callable

from ovseg.config.registry import PROPOSERS, chosen
from ovseg.models.devices import resolve_device
from ovseg.models.proposal import ProposalNetwork
from ovseg.models.proposals.query_segments import segmented

Proposer = Callable[[str, str], ProposalNetwork]
"""Makes a network of the name of its weights and a device; loads once a process what it loads."""


def proposer(
    source: str,
    weights: str,
    device: str = "cpu",
    *,
    segments: str = "queries",
    stage: str = "benchmarks",
) -> ProposalNetwork:
    """The network that settings mean.

    Args:
        source: a key of `PROPOSERS`.
        weights: name of its weights.
        device: a torch device, or `auto`.
        segments: a key of `ovseg.config.registry.SEGMENTS`.
        stage: `benchmarks` or `mining.proposals`, whose settings a message is to name.

    Raises:
        OvsegError: if there is no such source, post-processing, weights or device.
    """
    setting = f"{stage}.proposals" if stage == "benchmarks" else f"{stage}.source"
    make = chosen(PROPOSERS, source, setting=setting)
    network = make(weights, resolve_device(device))
    return segmented(network, segments, setting=f"{stage}.segments")


def proposer_digest(source: str, weights: str, *, segments: str = "queries") -> str:
    """Content hash (16 hex digits) of weights and of what is done with them; see `proposer`."""
    return proposer(source, weights, segments=segments).digest
