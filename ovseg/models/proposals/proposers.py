"""Proposal networks of every kind, by name in `ovseg.config.registry.PROPOSERS`.

    network = proposer("maskformer", "storybook", "cpu", segments="panoptic")
    network.propose([image])

A source gets the name of its weights (`mining.proposals.maskformer`, `benchmarks.maskformer`),
which the classical ones ignore. Mining and the segmentor use the same networks. `segments` names
the post-processing of the queries.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ovseg.config.registry import PROPOSERS, SEGMENTS, check_name, chosen
from ovseg.models.devices import resolve_device
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
    make = chosen(PROPOSERS, source, setting=_setting(stage))
    network = make(weights, resolve_device(device))
    return segmented(network, segments, setting=f"{stage}.segments")


def proposer_digest(
    source: str, weights: str, *, segments: str = "queries", stage: str = "benchmarks"
) -> str:
    """Return the hash (16 hex digits) of weights and post-processing; see `proposer`.

    The module of a source may have a function `<source>_digest` that takes the name of the weights
    and need not load them.
    """
    check_name(PROPOSERS, source, setting=_setting(stage))
    check_name(SEGMENTS, segments, setting=f"{stage}.segments")
    module = PROPOSERS.module(source)
    of_weights = getattr(module and import_module(module), f"{source}_digest", None)
    if of_weights is None:
        return proposer(source, weights, segments=segments, stage=stage).digest
    return segments_digest(of_weights(weights), segments)


def _setting(stage: str) -> str:
    return f"{stage}.proposals" if stage == "benchmarks" else f"{stage}.source"
