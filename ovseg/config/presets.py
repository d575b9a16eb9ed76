"""Named presets of a whole run: what it mines, trains and measures, its expected result and cost.

`storybook` runs the embedded world through every stage on a laptop. `paper` is the recipe of OVSeg
(CVPR 2023, Swin-B + ViT-L/14) on COCO with real weights; `gated` mines the same with our gates on.
Two more only score an imported checkpoint with its published constants:

    ovseg benchmark --preset ovseg-swinb-vitl14 --checkpoint FOLDER --data FOLDER

`ovseg import-checkpoint` makes the checkpoint's folder; the other holds prepared benchmarks, each
in a folder of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ovseg.config.data import DataConfig, ScreeningConfig, WorldConfig
from ovseg.config.mining import (
    MiningConfig,
    NounsSettings,
    PairingSettings,
    ProposalsSettings,
)
from ovseg.config.run import ExecutionConfig, ModelsConfig, RunConfig
from ovseg.config.scoring import BenchmarkSettings
from ovseg.config.training import PhaseSettings
from ovseg.errors import OvsegError

ARMS = {
    "original": "original CLIP",
    "finetuned": "fine-tuned",
    "prompts": "mask prompts",
    "both": "both in turn",
}
"""Slug to display name of the models a run compares."""
IMPORTED_ARM = "imported"
"""The one model of a preset that scores an imported checkpoint."""
LAMBDA = {
    "ade20k-150": 0.7,
    "ade20k-847": 0.7,
    "context-59": 0.6,
    "context-459": 0.6,
    "voc-20": 0.45,
}
"""Benchmark to ensemble weight, from the official instructions; the paper's appendix A.3 has 0.6
for voc-20."""
SEEN_SPLIT = {"ade20k-150": "coco-stuff"}
"""Benchmark to published split; voc-20's 15/5 split is left out, because COCO has all classes."""


def compact_maskformer(seed: int) -> str:
    """Return the name of the MaskFormer trained only on masks of a split's seen classes."""
    return f"storybook-{seed}" if seed else "storybook"


def _storybook(seed: int) -> RunConfig:
    from ovseg.storybook.categories import split

    seen, _ = split(seed)
    finetune = PhaseSettings(
        trains="image_encoder",
        epochs=9,
        batch_size=128,
        learning_rate=3e-4,
        warmup_steps=10,
        loss="distinct",
        initial_logit_scale=15.0,
        snapshots=5,
    )
    prompts = finetune.model_copy(
        update={
            "trains": "mask_prompts",
            "epochs": 14,
            "learning_rate": 2e-2,
            "weight_decay": 0.0,
            "prompt_depth": 1,  # deeper prompts learn the nouns rather than the blank area
        }
    )
    return RunConfig(
        preset="storybook",
        seed=seed,
        expect="a miniature: about four minutes on 2 CPU cores; mIoU of unseen classes 8 %"
        " by the original CLIP, 14 % fine-tuned (seed 0); its figures say nothing about"
        " photographs",
        root=Path("runs/storybook"),
        data=DataConfig(
            mining_world=WorldConfig(part="mining", scenes=800),
            benchmark_world=WorldConfig(part="val", scenes=240),
        ),
        models=ModelsConfig(maskformer=compact_maskformer(seed)),
        mining=MiningConfig(
            proposals=ProposalsSettings(
                short_side=160,
                max_side=640,
                label_set="storybook",
                label_classes=tuple(sorted(seen)),  # training sees no masks of unseen classes
            )
        ),
        curation="consistent",
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
        benchmarks=(
            BenchmarkSettings(
                benchmark="storybook",
                short_side=160,
                max_side=640,
                seen=tuple(sorted(seen)),
            ),
        ),
    )


def _paper(seed: int) -> RunConfig:
    finetune = PhaseSettings(precision="bf16")
    prompts = finetune.model_copy(
        update={"trains": "mask_prompts", "learning_rate": 2e-2, "weight_decay": 0.0}
    )
    return RunConfig(
        preset="paper",
        seed=seed,
        expect="published: A-150 28.8 fine-tuned, 29.6 with mask prompts (mIoU over classes in"
        " ground truth or prediction), by an ensemble with a MaskFormer of class embeddings, which"
        " this preset's is not: import OVSeg's; about 440K pairs and 12K nouns from one caption an"
        " image; days on one 80 GB GPU",
        root=Path("runs/paper"),
        data=DataConfig(dataset="coco-2017", captions_per_image=1),
        models=ModelsConfig(
            clip="ViT-L-14-quickgelu/openai",
            maskformer="facebook/maskformer-swin-base-coco",
            parser="en_core_web_sm",
            precision="auto",  # mining; `python -m bench agreement` compares both precisions
        ),
        mining=MiningConfig(nouns=NounsSettings(stop_nouns=False, compounds=False)),
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
        benchmarks=tuple(  # those for which --data has a prepared folder
            BenchmarkSettings(
                benchmark=name,
                templates="vild",
                short_side=640,
                max_side=2560,
                mask_threshold=0.4,
                ensemble_weight=weight,
                trained_on=("coco-panoptic-133",),  # this MaskFormer's training set
                seen_split=SEEN_SPLIT.get(name, ""),
            )
            for name, weight in LAMBDA.items()
        ),
        execution=ExecutionConfig(decode_workers=4),
    )


def _gated(seed: int) -> RunConfig:
    paper = _paper(seed)
    return paper.model_copy(
        update={
            "preset": "gated",
            "expect": "our gates on the paper's recipe: fewer, cleaner pairs; not yet measured on"
            " photographs",
            "root": Path("runs/gated"),
            "data": paper.data.model_copy(update={"captions_per_image": None}),
            "mining": paper.mining.model_copy(
                update={
                    "screening": ScreeningConfig(near_duplicates=True),
                    "nouns": NounsSettings(),
                    "proposals": ProposalsSettings(
                        min_score=0.1, min_area_fraction=0.0005, nms_iou=0.9
                    ),
                    "pairing": PairingSettings(
                        min_similarity=0.18, min_margin=0.002, mutual_best=True
                    ),
                }
            ),
        }
    )


PRESETS: dict[str, Callable[[int], RunConfig]] = {
    "storybook": _storybook,
    "paper": _paper,
    "gated": _gated,
}
"""Name to a function of the seed."""


def _published(
    name: str, *, short_side: int, max_side: int, mask_threshold: float, expect: str
) -> Callable[[int], RunConfig]:
    def preset(seed: int) -> RunConfig:
        common = BenchmarkSettings(
            templates="vild",
            short_side=short_side,
            max_side=max_side,
            mask_threshold=mask_threshold,
            trained_on=("coco-stuff-171",),
        )
        return RunConfig(
            preset=name,
            seed=seed,
            expect=expect,
            root=Path("runs") / name,
            models=ModelsConfig(clip="", maskformer=""),  # the user supplies them
            arms={IMPORTED_ARM: ()},
            benchmarks=tuple(
                common.model_copy(
                    update={
                        "benchmark": benchmark,
                        "ensemble_weight": weight,
                        "seen_split": SEEN_SPLIT.get(benchmark, ""),
                    }
                )
                for benchmark, weight in LAMBDA.items()
            ),
        )

    return preset


CHECKPOINT_PRESETS: dict[str, Callable[[int], RunConfig]] = {
    "ovseg-swinb-vitl14": _published(
        "ovseg-swinb-vitl14",
        short_side=640,
        max_side=2560,
        mask_threshold=0.4,
        expect="published mIoU (classes in ground truth or prediction): ade20k-847 9.0, context-459"
        " 12.4, ade20k-150 29.6, context-59 55.7, voc-20 94.5; about 0.8 s an image on one GPU;"
        " mask prompts of depth 3",
    ),
    "ovseg-r101c-vitb16": _published(
        "ovseg-r101c-vitb16",
        short_side=512,
        max_side=2048,
        mask_threshold=0.5,
        expect="published mIoU (classes in ground truth or prediction): ade20k-847 7.1, context-459"
        " 11.0, ade20k-150 24.8, context-59 53.3, voc-20 92.6; mask prompts of depth 3",
    ),
}
"""Name to a function of the seed, which has no effect here."""


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Load a preset and replace some of its fields.

    Args:
        name: one of `PRESETS` or `CHECKPOINT_PRESETS`.
        overrides: dotted field names to values, `{"models.clip": "ViT-B-16/openai"}`; a name
            that goes through a list or the arms applies to each member, as in
            `benchmarks.ensemble_weight` and `arms.epochs`. `seed` sets everything that depends on
            it: the order of training and, in the storybook, which classes are seen and so which
            MaskFormer proposes.

    Raises:
        OvsegError: the preset or field is unknown, or a value is of the wrong kind.
    """
    known = PRESETS | CHECKPOINT_PRESETS
    if name not in known:
        raise OvsegError(f"unknown preset {name!r}: choose one of {', '.join(known)}")
    rest = dict(overrides or {})
    seed = rest.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise OvsegError(f"setting seed: give a whole number from 0 (got {seed!r:.40})")
    return known[name](seed).replaced(rest)
