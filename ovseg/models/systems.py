"""From settings to a segmentor: the registries looked up, models and texts loaded once a process.

`ovseg.systems` has the names that stand for such settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from ovseg.benchmark_config import BenchmarkConfig
from ovseg.models.class_texts import pooling_of, shown_texts
from ovseg.models.clip import clip_digest, shared_clip
from ovseg.models.embedders import region_embedder
from ovseg.models.maskformer import load_maskformer
from ovseg.models.names import resolve_device
from ovseg.models.prompting import TextPrompts, text_prompts
from ovseg.models.segmentor import Segmentor


def load_segmentor(
    config: BenchmarkConfig,
    classes: Sequence[str],
    *,
    clip: str,
    prompts: Sequence[tuple[str, int]] = (),
    seen: Sequence[int] = (),
) -> Segmentor:
    """The segmentor of a configuration; its models and texts are loaded once a process.

    Args:
        config: thresholds, ensemble, embedder, device and the MaskFormer's name.
        classes: K names.
        clip: name of the CLIP.
        prompts: as for `Segmentor`.
        seen: indices of the classes whose masks were used in training.

    Raises:
        OvsegError: unknown names, or models that do not fit one another.
    """
    device = resolve_device(config.device)
    shown = shown_texts(config, classes, prompts)
    names = tuple(text for text, _ in shown)
    return Segmentor(
        shared_clip(clip, device=device),
        load_maskformer(config.maskformer, device),
        class_names=classes,
        prompts=shown,
        texts=_texts(text_prompts(config), clip_digest(clip), clip, device, names),
        pooling=pooling_of(config),
        relations=config.relations,
        short_side=config.short_side,
        max_side=config.max_side,
        mask_threshold=config.mask_threshold,
        ensemble_weight=class_weights(config, len(classes), seen),
        mode=config.ensemble,
        inference=config.inference,
        embedder=region_embedder(config, clip=clip, device=device),
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


@lru_cache(maxsize=16)
def _texts(
    strategy: TextPrompts, digest: str, clip: str, device: str, names: tuple[str, ...]
) -> Tensor:
    # the CLIP's digest is part of the key only: the same folder may hold another model by now;
    # strategies of one digest are equal
    return strategy.embed(shared_clip(clip, device=device), names)
