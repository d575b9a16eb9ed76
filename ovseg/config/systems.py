"""Published systems by name: a name stands for settings, and nothing else.

    ovseg benchmark --preset storybook --system zsseg

Two systems therefore share proposals, texts, scoring and every other setting that neither sets, and
explicit settings (`--set`) go before those of the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovseg.config.registry import chosen

UNADAPTED: Mapping[str, Any] = {"arms": {"original": ()}, "benchmarks.mask_prompts": False}


@dataclass(frozen=True, kw_only=True)
class System:
    """The settings of a published system.

    Attributes:
        title: what it is, in a few words.
        source: where it is described.
        settings: dotted name to value.
        miniature: more settings for the embedded world, such as its compact weights.
    """

    title: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    miniature: Mapping[str, Any] = field(default_factory=dict)


SYSTEMS: dict[str, System] = {
    "ovseg": System(
        title="masked crops named by mask-adapted CLIP",
        source="OVSeg, CVPR 2023",
    ),
    "zsseg": System(
        title="masked crops named by unadapted CLIP, trusted less on seen classes",
        source="SimBaseline (ZSSeg), ECCV 2022",
        settings={
            **UNADAPTED,
            "benchmarks.mask_threshold": 0.5,
            "benchmarks.ensemble": "geometric",
            "benchmarks.ensemble_weight": 0.8,
            "benchmarks.seen_weight": 0.2,
        },
    ),
    "maskclip": System(
        title="a mask token a proposal in one pass of unadapted CLIP",
        source="MaskCLIP, ICML 2023",
        settings={
            **UNADAPTED,
            "benchmarks.embedder": "mask_tokens",
            "benchmarks.mask_threshold": 0.5,
        },
        # CLIP's own 6 x 6 patches are coarser than most objects in its scenes
        miniature={"benchmarks.image_size": 192},
    ),
    "fc-clip": System(
        title="dense features of a frozen convolutional CLIP pooled under the masks",
        source="FC-CLIP, NeurIPS 2023",
        settings={
            **UNADAPTED,
            "benchmarks.clip": "convnext_large_d_320/laion2b_s29b_b131k_ft_soup",
            "benchmarks.embedder": "mask_pooling",
            "benchmarks.mask_threshold": 0.5,
            "benchmarks.ensemble": "void",
            "benchmarks.ensemble_weight": 0.8,
            "benchmarks.seen_weight": 0.4,
            "benchmarks.whole_places": True,
        },
        miniature={"benchmarks.clip": "storybook-conv", "benchmarks.image_size": 320},
    ),
    "retrieval": System(
        title="OVSeg with the votes of the nearest mined regions",
        source="RetCLIP, 2026; CorrCLIPv2",
        settings={"benchmarks.retrieval_weight": 0.3},
    ),
    "lseg": System(
        title="every pixel named by its own embedding, trained on seen classes",
        source="LSeg, ICLR 2022; LSeg+ of OVSeg's table 1",
        settings={**UNADAPTED, "benchmarks.segmentor": "pixels"},
        miniature={"benchmarks.pixels": "storybook-lseg"},
    ),
    "lseg-proposals": System(
        title="pixel embeddings pooled in the proposals",
        source="LSeg+ with OVSeg's proposals",
        settings={
            **UNADAPTED,
            "benchmarks.embedder": "pixel_pooling",
            "benchmarks.ensemble": "clip_only",
        },
        miniature={"benchmarks.pixels": "storybook-lseg"},
    ),
    "maskformer": System(
        title="a supervised MaskFormer with the classes it was trained on, without CLIP",
        source="MaskFormer, NeurIPS 2021",
        settings={
            **UNADAPTED,
            "benchmarks.ensemble": "maskformer_only",
            "benchmarks.vocabulary": "own",
        },
        miniature={"benchmarks.maskformer": "storybook-supervised"},
    ),
}
"""Value of `benchmarks.system` to its settings."""


def system_settings(name: str, *, miniature: bool) -> dict[str, Any]:
    """Return the settings of a system, by dotted name.

    Args:
        name: one of `SYSTEMS`.
        miniature: whether they are for the embedded world.

    Raises:
        OvsegError: the system is unknown.
    """
    system = chosen(SYSTEMS, name, setting="benchmarks.system")
    return {**system.settings, **(system.miniature if miniature else {})}
