"""Named presets of a whole run: what is mined, trained, measured; what to expect and what it costs.

`storybook` runs the embedded world through every stage on a laptop. `paper` is the recipe of OVSeg
(CVPR 2023, Swin-B + ViT-L/14) on COCO with real weights; `gated` mines the same with our gates on.
Those that only score an imported checkpoint stand in `ovseg.checkpoint_presets`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ovseg.checkpoint_presets import CHECKPOINT_PRESETS, LAMBDA
from ovseg.config import (
    BenchmarkConfig,
    FinetuneConfig,
    ImagesConfig,
    NounsConfig,
    PairingConfig,
    ProposalsConfig,
    WorldConfig,
)
from ovseg.errors import OvsegError
from ovseg.locations import Location, located, reaching, reason
from ovseg.settings import PipelineConfig

ARMS = {
    "original": "original CLIP",
    "finetuned": "fine-tuned",
    "prompts": "mask prompts",
    "both": "both in turn",
}
"""The models a run compares, by slug: what is shown of them."""


def _compact_maskformer(seed: int) -> str:
    """The name of the MaskFormer that saw masks of a split's seen classes only."""
    return f"storybook-{seed}" if seed else "storybook"


def _storybook(seed: int) -> PipelineConfig:
    from ovseg.storybook.catalogue import split

    seen, _ = split(seed)
    maskformer = _compact_maskformer(seed)
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
        expect="a miniature: about eight minutes on 2 CPU cores; mIoU of unseen classes 11 % by the"
        " original CLIP, 17 % fine-tuned (seed 0); its figures say nothing about photographs",
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
        " ground truth or prediction); about 440K pairs and 12K nouns from one caption an image;"
        " days on one 80 GB GPU",
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
    if not isinstance(seed, int) or seed < 0:
        raise OvsegError(f"setting seed: give a whole number from 0 (got {seed!r})")
    return known[name](seed).replaced(rest)


def configure(
    preset: str,
    *,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """The configuration of a run: a preset, over the embedded world or over a user's own images.

    Args:
        preset: one of `PRESETS`.
        root: folder of all results; the preset's own where empty.
        captions: captions file or folder, a path or URL, in any of the formats of
            `ovseg.data.captions.FORMATS`.
        images: folder or URL of the images it names; goes with `captions`.
        seed: the setting `seed`, whatever `overrides` has; theirs or 0 where empty.
        overrides: dotted settings to replace, as for `load_preset`.

    Raises:
        OvsegError: for what `load_preset` refuses, captions without images or the reverse, and
            paths that do not exist.
    """
    config = load_preset(preset, {**(overrides or {}), **({} if seed is None else {"seed": seed})})
    if root is not None:
        config = config.model_copy(update={"root": root})
    source, folder = _source(captions, images)
    if preset in CHECKPOINT_PRESETS:
        return _scoring(config, source)
    config = config.with_rooted() if config.data is None else config.with_prepared(config.data)
    if source is not None and folder is not None:
        return _own_images(config, folder, root).with_source(source.resolve(), folder.resolve())
    if config.proposals.labels is not None:
        return _labels_alone(config, config.proposals.labels, root)
    if config.mining_world is None:
        raise OvsegError(
            f"preset {preset} mines your images: give --captions FILE and --images FOLDER"
        )
    return config


def _source(
    captions: str | Path | None, images: str | Path | None
) -> tuple[Location, Location] | tuple[None, None]:
    """Captions and the folder of their images, both found to be there."""
    if captions is None and images is None:
        return None, None
    if captions is None or images is None:
        raise OvsegError("captions and images go together: give both or neither")
    source, folder = located(captions), located(images)
    for path in (source, folder):
        try:
            with reaching(path):
                there = path.exists()
        except OSError as error:
            raise OvsegError(f"{path} cannot be reached: {reason(error)}") from error
        if not there:
            raise OvsegError(f"{path} does not exist: give the captions file and its images")
    return source, folder


def _scoring(config: PipelineConfig, captions: Location | None) -> PipelineConfig:
    """A preset that scores a checkpoint, once it is said which and on what."""
    if captions is not None:
        raise OvsegError(f"preset {config.preset} mines nothing: leave captions and images out")
    if not all(item.clip and item.maskformer for item in config.benchmarks):
        raise OvsegError(
            f"preset {config.preset} scores an imported checkpoint: give --checkpoint FOLDER, which"
            " `ovseg import-checkpoint` makes"
        )
    if config.data is None and any(item.root is None for item in config.benchmarks):
        raise OvsegError(
            f"preset {config.preset} scores prepared benchmarks: give --data FOLDER, which holds"
            f" some of {', '.join(item.benchmark for item in config.benchmarks)}"
        )
    return config if config.data is None else config.with_prepared(config.data)


def _labels_alone(config: PipelineConfig, labels: Path, root: Path | None) -> PipelineConfig:
    """A run over the images of a labelled set, which need no captions as no noun is asked for."""
    from ovseg.analysis.pair_sources import pair_sources  # loads duckdb

    if any(source != "gt_label" for source in pair_sources(config)):
        raise OvsegError(
            f"--labels {labels} alone gives gt_label pairs: add --source gt_label (to train on"
            " them --set curation=gt_labels), or --captions and --images for nouns"
        )
    if not labels.is_dir():
        raise OvsegError(f"{labels} is no folder: give the folder of a labelled set as --labels")
    config = _own_images(config, labels, root)
    if config.proposals.label_set not in ("", labels.resolve().name):
        raise OvsegError(
            f"--labels {labels} alone is read as {labels.resolve().name}, not as"
            f" {config.proposals.label_set}: name the folder so, or give --captions and --images"
        )
    listed = {"images.captions_format": "labelled", "images.uncaptioned": True}
    return config.replaced(listed).with_source(labels.resolve(), labels.resolve())


def configure_seeds(
    preset: str,
    *,
    seeds: int,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[PipelineConfig]:
    """The configurations of one run over several seeds, each under a root of its own.

    Args:
        preset: one of `PRESETS`.
        seeds: how many; 0 to seeds - 1 are run.
        root: folder of all results, `<root>/seed-<n>` of one seed's; the preset's own where empty.
        captions: as for `configure`.
        images: as for `configure`.
        seed: refused, as the seeds are numbered from 0.
        overrides: as for `configure`, without `seed`.

    Raises:
        OvsegError: for what `configure` refuses, fewer than one seed, a seed given beside them, or
            a seed whose storybook MaskFormer is not there.
    """
    if seeds < 1:
        raise OvsegError(f"--seeds {seeds}: give how many seeds to run, at least 1")
    if seed is not None or "seed" in (overrides or {}):
        raise OvsegError(f"--seeds {seeds} runs seeds 0 to {seeds - 1}: give no seed beside it")
    given: dict[str, Any] = {"captions": captions, "images": images, "overrides": overrides}
    home = configure(preset, root=root, **given).root
    configs = [
        configure(preset, root=home / f"seed-{number}", seed=number, **given)
        for number in range(seeds)
    ]
    for config in configs:
        _check_shipped(config)
    return configs


def _check_shipped(config: PipelineConfig) -> None:
    """Find the compact MaskFormer of a seed before anything is computed, without loading it."""
    names = {config.proposals.maskformer, *(item.maskformer for item in config.benchmarks)}
    if _compact_maskformer(config.seed) in names:
        from ovseg.models.maskformer import storybook_weights  # loads torch

        if not (storybook_weights(config.seed) / "config.json").is_file():
            raise OvsegError(
                f"no MaskFormer is there for the storybook's seed {config.seed}: train it with"
                f" `python -m flows.train_maskformer --split {config.seed}`, or run fewer seeds"
            )


def _own_images(config: PipelineConfig, images: Location, root: Path | None) -> PipelineConfig:
    """A preset over a user's images: nothing of it is the storybook's any more.

    Where the data set was not named, the folder of the images names it, and its results get a
    folder of their own beside the storybook's.
    """
    changed: dict[str, Any] = {"mining_world": None, "benchmark_world": None}
    if config.proposals.label_set == "storybook":
        changed["proposals"] = _own_labels(config)
    changed["benchmarks"] = tuple(b for b in config.benchmarks if b.benchmark != "storybook")
    if config.images.dataset == "storybook":
        name = re.sub(r"[^a-z0-9]+", "-", images.resolve().name.lower()).strip("-") or "images"
        changed["images"] = config.images.model_copy(update={"dataset": name})
        changed["pairing"] = config.pairing.model_copy(update={"dataset": name})
        if root is None and config.root == Path("runs/storybook"):
            changed["root"] = Path("runs") / name
    return config.model_copy(update=changed)


def _own_labels(config: PipelineConfig) -> ProposalsConfig:
    """Proposals without the storybook's labelled set and its seen classes; own classes stay."""
    drawn = PRESETS["storybook"](config.seed).proposals.label_classes
    chosen = config.proposals.label_classes
    kept = () if chosen == drawn else chosen
    return config.proposals.model_copy(update={"label_set": "", "label_classes": kept})
