"""Named presets of a whole run: what is mined, trained, measured; what to expect and what it costs.

`storybook` runs the embedded world through every stage on a laptop. `paper` is the recipe of OVSeg
(CVPR 2023, Swin-B + ViT-L/14) on COCO with real weights; `gated` mines the same with our gates on.
Those that only score an imported checkpoint stand in `ovseg.config.checkpoint_presets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ovseg.config.checkpoint_presets import CHECKPOINT_PRESETS, LAMBDA, SEEN_SPLIT
from ovseg.config.data import ImagesConfig, WorldConfig
from ovseg.config.mining import NounsConfig, PairingConfig, ProposalsConfig
from ovseg.config.run import PipelineConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError

ARMS = {
    "original": "original CLIP",
    "finetuned": "fine-tuned",
    "prompts": "mask prompts",
    "both": "both in turn",
}
"""The models a run compares, by slug: what is shown of them."""


def compact_maskformer(seed: int) -> str:
    """The name of the MaskFormer that saw masks of a split's seen classes only."""
    return f"storybook-{seed}" if seed else "storybook"


def _storybook(seed: int) -> PipelineConfig:
    from ovseg.storybook.categories import split

    seen, _ = split(seed)
    maskformer = compact_maskformer(seed)
    finetune = FinetuneConfig(
        trains="image_encoder",
        epochs=9,
        batch_size=128,
        learning_rate=3e-4,
        warmup_steps=10,
        loss="distinct",
        initial_logit_scale=15.0,
        snapshots=5,
        seed=seed,
    )
    prompts = finetune.model_copy(
        update={
            "trains": "mask_prompts",
            "epochs": 14,
            "learning_rate": 2e-2,
            "weight_decay": 0.0,
            "prompt_depth": 1,  # in more blocks they learn the nouns rather than the blank
        }
    )
    return PipelineConfig(
        preset="storybook",
        seed=seed,
        expect="a miniature: about a quarter of an hour on 2 CPU cores; mIoU of unseen classes 8 %"
        " by the original CLIP, 14 % fine-tuned (seed 0); its figures say nothing about"
        " photographs",
        root=Path("runs/storybook"),
        mining_world=WorldConfig(part="mining", scenes=800),
        benchmark_world=WorldConfig(part="val", scenes=240),
        proposals=ProposalsConfig(
            maskformer=maskformer,
            short_side=160,
            max_side=640,
            label_set="storybook",
            label_classes=tuple(sorted(seen)),  # of the unseen ones training sees no mask
        ),
        curation="consistent",
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
        benchmarks=(
            BenchmarkConfig(
                benchmark="storybook",
                maskformer=maskformer,
                short_side=160,
                max_side=640,
                seen=tuple(sorted(seen)),
            ),
        ),
    )


def _paper(seed: int) -> PipelineConfig:
    clip, maskformer = "ViT-L-14-quickgelu/openai", "facebook/maskformer-swin-base-coco"
    finetune = FinetuneConfig(
        clip=clip, precision="bf16", cache_regions=False, decode_workers=4, seed=seed
    )
    prompts = finetune.model_copy(
        update={"trains": "mask_prompts", "learning_rate": 2e-2, "weight_decay": 0.0}
    )
    return PipelineConfig(
        preset="paper",
        seed=seed,
        expect="published: A-150 28.8 fine-tuned, 29.6 with mask prompts (mIoU over classes in"
        " ground truth or prediction), by an ensemble with a MaskFormer of class embeddings, which"
        " this preset's is not: import OVSeg's; about 440K pairs and 12K nouns from one caption an"
        " image; days on one 80 GB GPU",
        root=Path("runs/paper"),
        images=ImagesConfig(dataset="coco-2017", captions_per_image=1),
        nouns=NounsConfig(parser="en_core_web_sm", stop_nouns=False, compounds=False),
        proposals=ProposalsConfig(maskformer=maskformer, decode_workers=4),
        pairing=PairingConfig(dataset="coco-2017", clip=clip, decode_workers=4),
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
        benchmarks=tuple(  # those for which --data has a prepared folder
            BenchmarkConfig(
                benchmark=name,
                clip=clip,
                maskformer=maskformer,
                templates="vild",
                short_side=640,
                max_side=2560,
                mask_threshold=0.4,
                ensemble_weight=weight,
                trained_on=("coco-panoptic-133",),  # what this MaskFormer was trained on
                seen_split=SEEN_SPLIT.get(name, ""),
            )
            for name, weight in LAMBDA.items()
        ),
    )


def _gated(seed: int) -> PipelineConfig:
    paper = _paper(seed)
    return paper.model_copy(
        update={
            "preset": "gated",
            "expect": "our gates on the paper's recipe: fewer, cleaner pairs; not yet measured on"
            " photographs",
            "root": Path("runs/gated"),
            "images": paper.images.model_copy(update={"captions_per_image": None}),
            "screening": paper.screening.model_copy(update={"near_duplicates": True}),
            "nouns": paper.nouns.model_copy(update={"stop_nouns": True, "compounds": True}),
            "proposals": paper.proposals.model_copy(
                update={"min_score": 0.1, "min_area_fraction": 0.0005, "nms_iou": 0.9}
            ),
            "pairing": paper.pairing.model_copy(
                update={"min_similarity": 0.18, "min_margin": 0.002, "mutual_best": True}
            ),
        }
    )


PRESETS: dict[str, Callable[[int], PipelineConfig]] = {
    "storybook": _storybook,
    "paper": _paper,
    "gated": _gated,
}
"""By name, a function of the seed."""


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
    """A preset with some fields replaced.

    Args:
        name: one of `PRESETS` or `CHECKPOINT_PRESETS`.
        overrides: dotted field names to values, `{"pairing.clip": "ViT-B-16/openai"}`; a name
            that goes through a list or the arms applies to each of its members, as in
            `benchmarks.ensemble_weight` and `arms.epochs`. `seed` goes to all that hangs on it:
            the order of training and, in the storybook, which classes are seen and so which
            MaskFormer proposes.

    Raises:
        OvsegError: for an unknown preset or field, or a value of the wrong kind.
    """
    known = PRESETS | CHECKPOINT_PRESETS
    if name not in known:
        raise OvsegError(f"unknown preset {name!r}: choose one of {', '.join(known)}")
    rest = dict(overrides or {})
    seed = rest.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise OvsegError(f"setting seed: give a whole number from 0 (got {seed!r:.40})")
    return known[name](seed).replaced(rest)
