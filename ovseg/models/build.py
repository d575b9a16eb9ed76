"""Build a segmentor from settings: look up registries, load models and texts once per process.

`ovseg.config.systems` has the names for such settings.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.segmenting import segmenting
from ovseg.errors import OvsegError
from ovseg.models.clip.load import clip_digest, shared_clip
from ovseg.models.devices import resolve_device
from ovseg.models.lseg.embedder import load_pixels, pixels_digest
from ovseg.models.lseg.segmentor import PixelSegmentor
from ovseg.models.maskformer.closed_vocabulary import ClosedVocabulary, benchmark_vocabulary
from ovseg.models.preprocessing import InputSize
from ovseg.models.proposal import OpenVocabularyNetwork, ProposalNetwork
from ovseg.models.proposals.proposers import proposer, proposer_digest
from ovseg.models.regions.embedders import embedder_weights, region_embedder
from ovseg.models.regions.memory import RegionMemory, Retrieval
from ovseg.models.segmentation import OpenVocabularySegmentor
from ovseg.models.segmentor import Segmentor
from ovseg.models.texts.class_texts import ClassTexts, class_texts, shown_texts
from ovseg.models.texts.strategies import TextPrompts, text_prompts


def load_segmentor(
    config: BenchmarkConfig | str | Path,
    classes: Sequence[str],
    *,
    clip: str | None = None,
    prompts: Sequence[tuple[str, int]] = (),
    seen: Sequence[int] = (),
    regions: Path | None = None,
) -> OpenVocabularySegmentor:
    """Load the segmentor of a configuration; models and texts are loaded once per process.

    Args:
        config: thresholds, ensemble, embedder, device and the source of masks
            (`ovseg.config.segmenting.segmenting` makes one from settings); or just the folder of an
            imported checkpoint, or `storybook`, at its own sizes.
        classes: K names.
        clip: name of the CLIP; defaults to the configured one.
        prompts: as for `Segmentor`.
        seen: indices of the classes whose masks were used in training.
        regions: folder of a `RegionMemory`, if the configuration retrieves.

    Raises:
        OvsegError: if a name is unknown, or models do not fit one another.
    """
    if not isinstance(config, BenchmarkConfig):
        settings = dict.fromkeys(("benchmarks.clip", "benchmarks.maskformer"), str(config))
        config = segmenting(settings)
    clip, device = config.clip if clip is None else clip, resolve_device(config.device)
    class_prompts = shown_texts(config, classes, prompts)
    names = tuple(text for text, _ in class_prompts)
    texts_te = _texts(text_prompts(config), clip_digest(clip), clip, device, names)
    texts = class_texts(config, texts_te, class_prompts, len(classes))
    size = InputSize(config.short_side, config.max_side)
    if config.segmentor == "pixels":
        return PixelSegmentor(
            load_pixels(config.pixels, device),
            class_names=classes,
            prompts=class_prompts,
            texts=texts_te,
            size=size,
        )
    network = proposer(config.proposals, config.maskformer, device, segments=config.segments)
    return Segmentor(
        shared_clip(clip, device=device),
        network,
        class_names=classes,
        prompts=class_prompts,
        texts=texts_te,
        pooling=texts.pooling,
        relations=texts.relations,
        size=size,
        mask_threshold=config.mask_threshold,
        ensemble_weight=class_weights(config, len(classes), seen),
        mode=config.ensemble,
        inference=config.inference,
        embedder=region_embedder(config, clip=clip, device=device),
        retrieval=_retrieval(config, regions, texts, clip=clip, device=device),
        own=_own_vocabulary(config, network, classes),
    )


def network_weights(config: BenchmarkConfig, *, clip: str) -> dict[str, str]:
    """Return the content digests of a configuration's networks, by setting."""
    weights = {"clip": clip_digest(clip), "texts": text_prompts(config).digest}
    if config.segmentor == "proposals":
        weights["maskformer"] = proposer_digest(
            config.proposals, config.maskformer, segments=config.segments
        )
    else:
        weights["pixels"] = pixels_digest(config.pixels)
    return weights | embedder_weights(config)


def _own_vocabulary(
    config: BenchmarkConfig, network: ProposalNetwork, classes: Sequence[str]
) -> ClosedVocabulary | None:
    closed = not isinstance(network, OpenVocabularyNetwork)
    if config.vocabulary == "open" and not (closed and config.ensemble == "maskformer_only"):
        return None
    own = getattr(network, "class_names", ())
    if not own:
        source = config.maskformer if config.proposals == "maskformer" else config.proposals
        raise OvsegError(
            f"{source} has no classes: it only proposes masks for CLIP to classify; set"
            " benchmarks.vocabulary=open and benchmarks.ensemble other than maskformer_only"
        )
    return benchmark_vocabulary(tuple(own), tuple(classes), config.benchmark)


def class_weights(config: BenchmarkConfig, classes: int, seen: Sequence[int]) -> float | Tensor:
    """Return lambda: a number, or `(K,)` float32 if seen classes have their own.

    Args:
        config: `ensemble_weight`, and `seen_weight` if there is one.
        classes: number of classes K.
        seen: indices of the seen classes.
    """
    if config.seen_weight is None:
        return config.ensemble_weight
    weights = torch.full((classes,), config.ensemble_weight)
    weights[list(seen)] = config.seen_weight
    return weights


def _retrieval(
    config: BenchmarkConfig, regions: Path | None, texts: ClassTexts, *, clip: str, device: str
) -> Retrieval | None:
    if not config.retrieval_weight:
        return None
    if regions is None:
        raise OvsegError(
            f"benchmarks.retrieval_weight is {config.retrieval_weight:g}, but there are no mined"
            " regions: score it with `ovseg benchmark`, or set it to 0"
        )
    memory = _memory(str(regions), device)
    of_nouns = _texts(text_prompts(config), clip_digest(clip), clip, device, memory.nouns)
    return Retrieval(
        memory,
        of_nouns,
        texts,
        neighbors=config.retrieval_neighbors,
        weight=config.retrieval_weight,
    )


@lru_cache(maxsize=2)
def _memory(regions: str, device: str) -> RegionMemory:
    return RegionMemory.load(Path(regions), device)


_EMBEDDING_TEXTS = threading.Lock()


def _texts(
    strategy: TextPrompts, digest: str, clip: str, device: str, names: tuple[str, ...]
) -> Tensor:
    """Embed names once per process; one thread at a time, so that none repeats another's work."""
    with _EMBEDDING_TEXTS:
        return _embedded(strategy, digest, clip, device, names)


@lru_cache(maxsize=16)
def _embedded(
    strategy: TextPrompts, digest: str, clip: str, device: str, names: tuple[str, ...]
) -> Tensor:
    # the CLIP's digest is a cache key: the folder's model may have changed; strategies of one
    # digest are equal
    return strategy.embed(shared_clip(clip, device=device), names)
