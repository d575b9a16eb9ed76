"""From settings to a segmentor: the registries looked up, models and texts loaded once a process.

`ovseg.systems` has the names that stand for such settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ovseg.benchmark_config import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.models.clip import clip_digest, shared_clip
from ovseg.models.embedders import region_embedder
from ovseg.models.maskformer import load_maskformer
from ovseg.models.names import resolve_device
from ovseg.models.prompts import text_embeddings
from ovseg.models.retrieval import RegionMemory, Retrieval
from ovseg.models.segmentor import Segmentor


def load_segmentor(
    config: BenchmarkConfig,
    classes: Sequence[str],
    *,
    clip: str,
    prompts: Sequence[tuple[str, int]] = (),
    seen: Sequence[int] = (),
    regions: Path | None = None,
) -> Segmentor:
    """The segmentor of a configuration; its models and texts are loaded once a process.

    Args:
        config: thresholds, ensemble, embedder, device and the MaskFormer's name.
        classes: K names.
        clip: name of the CLIP.
        prompts: as for `Segmentor`.
        seen: indices of the classes whose masks were used in training.
        regions: folder of a `RegionMemory`, where the configuration retrieves.

    Raises:
        OvsegError: unknown names, or models that do not fit one another.
    """
    device = resolve_device(config.device)
    names = tuple(text for text, _ in prompts) or tuple(classes)
    texts = _texts(clip_digest(clip), clip, device, names, config.templates)
    return Segmentor(
        shared_clip(clip, device=device),
        load_maskformer(config.maskformer, device),
        class_names=classes,
        prompts=prompts,
        texts=texts,
        short_side=config.short_side,
        max_side=config.max_side,
        mask_threshold=config.mask_threshold,
        ensemble_weight=class_weights(config, len(classes), seen),
        mode=config.ensemble,
        inference=config.inference,
        embedder=region_embedder(config, clip=clip, device=device),
        retrieval=_retrieval(config, regions, texts, clip=clip, device=device),
    )


def class_weights(config: BenchmarkConfig, classes: int, seen: Sequence[int]) -> float | Tensor:
    """Lambda of every class: a number, or `(K,)` float32 where seen classes have one of their own.

    Args:
        config: `ensemble_weight`, and `seen_weight` if there is one.
        classes: K.
        seen: indices of the seen ones.
    """
    if config.seen_weight is None:
        return config.ensemble_weight
    weights = torch.full((classes,), config.ensemble_weight)
    weights[list(seen)] = config.seen_weight
    return weights


def _retrieval(
    config: BenchmarkConfig, regions: Path | None, texts: Tensor, *, clip: str, device: str
) -> Retrieval | None:
    if not config.retrieval_weight:
        return None
    if regions is None:
        raise OvsegError(
            f"benchmarks.retrieval_weight is {config.retrieval_weight:g}, but no mined regions were"
            " handed in: score it with `ovseg benchmark`, or set it to 0"
        )
    memory = _memory(str(regions), device)
    of_nouns = _texts(clip_digest(clip), clip, device, memory.nouns, config.templates)
    return Retrieval(
        memory,
        of_nouns,
        texts,
        neighbours=config.retrieval_neighbours,
        weight=config.retrieval_weight,
    )


@lru_cache(maxsize=2)
def _memory(regions: str, device: str) -> RegionMemory:
    return RegionMemory.load(Path(regions), device)


@lru_cache(maxsize=16)
def _texts(digest: str, clip: str, device: str, names: tuple[str, ...], templates: str) -> Tensor:
    # the digest is part of the key only: the same folder may hold another model by now
    return text_embeddings(shared_clip(clip, device=device), names, templates=templates)
