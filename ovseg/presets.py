"""Named presets of a whole run: what is mined, trained, measured; what to expect and what it costs.

`storybook` runs the embedded world through every stage on a laptop. `paper` is the recipe of OVSeg
(CVPR 2023, Swin-B + ViT-L/14) on COCO with real weights; `gated` mines the same with our gates on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from ovseg.config import (
    BenchmarkConfig,
    Config,
    FinetuneConfig,
    ImagesConfig,
    NounsConfig,
    PairingConfig,
    ProposalsConfig,
    TableConfig,
    TextsConfig,
    WorldConfig,
    execution,
)
from ovseg.errors import OvsegError

ARMS = {
    "original": "original CLIP",
    "finetuned": "fine-tuned",
    "prompts": "mask prompts",
    "both": "both in turn",
}
"""The models a run compares, by slug: what is shown of them."""


class PipelineConfig(Config):
    """Everything one run does, from captions and images to benchmark numbers."""

    preset: str = Field(description="name of the preset this began as")
    expect: str = Field(description="what the run should reach, on which hardware, in what time")
    root: Path = execution(Path("runs"), "folder of all results")
    tracking_uri: str | None = execution(None, "MLflow server; <root>/mlflow.db where empty")
    mining_world: WorldConfig | None = Field(None, description="storybook scenes to mine")
    benchmark_world: WorldConfig | None = Field(None, description="storybook scenes to score on")
    images: ImagesConfig = ImagesConfig()
    nouns: NounsConfig = NounsConfig()
    proposals: ProposalsConfig = ProposalsConfig()
    pairing: PairingConfig = PairingConfig()
    panoptic: Path | None = execution(None, "panoptic ground truth to judge the pairs by")
    curation: str = Field("paper", description="query in sql/curation, or a path to one")
    arms: dict[str, tuple[FinetuneConfig, ...]] = Field(
        description="training phases of each compared model, in order"
    )
    benchmarks: tuple[BenchmarkConfig, ...] = ()

    @model_validator(mode="after")
    def _one_dataset(self) -> PipelineConfig:
        if self.images.dataset != self.pairing.dataset:
            raise ValueError(
                "images.dataset and pairing.dataset name one data set: make them equal"
            )
        return self

    @property
    def texts(self) -> TextsConfig:
        """Text embeddings as the pairing compares them."""
        return TextsConfig(
            clip=self.pairing.clip, template=self.pairing.template, device=self.pairing.device
        )

    @property
    def table(self) -> TableConfig:
        """The published table of what the pairing writes."""
        return TableConfig(dataset=self.pairing.dataset, round=self.pairing.round)

    def with_source(
        self, captions: Path, image_root: Path, panoptic: Path | None = None
    ) -> PipelineConfig:
        """The same run over a captions file and the folder its file names are relative to."""
        return self._with(
            {
                "panoptic": panoptic,
                "images.captions": captions,
                "images.image_root": image_root,
                "proposals.image_root": image_root,
                "pairing.image_root": image_root,
                "arms.image_root": image_root,
            }
        )

    def with_benchmark_root(self, name: str, root: Path) -> PipelineConfig:
        """The same run with the folder of one prepared benchmark."""
        benchmarks = tuple(
            item.model_copy(update={"root": root}) if item.benchmark == name else item
            for item in self.benchmarks
        )
        return self.model_copy(update={"benchmarks": benchmarks})

    def _with(self, overrides: Mapping[str, Any]) -> PipelineConfig:
        values = self.model_dump(mode="python")
        for path, value in overrides.items():
            _assign(values, path.split("."), value, path)
        try:
            return PipelineConfig(**values)
        except ValidationError as error:
            raise OvsegError(_in_words(error)) from error


def _in_words(error: ValidationError) -> str:
    """The first thing wrong with a configuration, on one line."""
    first = error.errors()[0]
    if not first["loc"]:  # a rule over several settings, whose message names them
        return first["msg"].removeprefix("Value error, ")
    where = ".".join(str(part) for part in first["loc"])
    return f"setting {where}: {first['msg']} (got {first['input']!r:.80})"


def _storybook() -> PipelineConfig:
    from ovseg.storybook.catalogue import split

    seen, _ = split(0)
    finetune = FinetuneConfig(
        trains="image_encoder",
        epochs=4,
        batch_size=128,
        learning_rate=3e-4,
        warmup_steps=10,
        loss="distinct",
        initial_logit_scale=15.0,
    )
    prompts = finetune.model_copy(
        update={
            "trains": "mask_prompts",
            "learning_rate": 2e-2,
            "weight_decay": 0.0,
        }
    )
    return PipelineConfig(
        preset="storybook",
        expect="a miniature: minutes on 2 CPU cores; its figures say nothing about photographs",
        root=Path("runs/storybook"),
        mining_world=WorldConfig(part="mining", scenes=640),
        benchmark_world=WorldConfig(part="val", scenes=120),
        proposals=ProposalsConfig(short_side=160, max_side=640),
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
        benchmarks=(
            BenchmarkConfig(
                benchmark="storybook", short_side=160, max_side=640, seen=tuple(sorted(seen))
            ),
        ),
    )


def _paper() -> PipelineConfig:
    clip, maskformer = "ViT-L-14-quickgelu/openai", "facebook/maskformer-swin-base-coco"
    finetune = FinetuneConfig(clip=clip, precision="bf16", cache_regions=False)
    prompts = finetune.model_copy(
        update={"trains": "mask_prompts", "learning_rate": 2e-2, "weight_decay": 0.0}
    )
    return PipelineConfig(
        preset="paper",
        expect="published: A-150 28.8 fine-tuned, 29.6 with mask prompts (mIoU over classes in"
        " ground truth or prediction); about 440K pairs and 12K nouns from one caption an image;"
        " days on one 80 GB GPU",
        root=Path("runs/paper"),
        images=ImagesConfig(dataset="coco-2017", captions_per_image=1),
        nouns=NounsConfig(parser="en_core_web_sm", stop_nouns=False, compounds=False),
        proposals=ProposalsConfig(maskformer=maskformer, decode_workers=4),
        pairing=PairingConfig(dataset="coco-2017", clip=clip),
        arms={
            "original": (),
            "finetuned": (finetune,),
            "prompts": (prompts,),
            "both": (finetune, prompts),
        },
    )


def _gated() -> PipelineConfig:
    paper = _paper()
    return paper.model_copy(
        update={
            "preset": "gated",
            "expect": "our gates on the paper's recipe: fewer, cleaner pairs; not yet measured on"
            " photographs",
            "root": Path("runs/gated"),
            "images": paper.images.model_copy(update={"captions_per_image": None}),
            "nouns": paper.nouns.model_copy(update={"stop_nouns": True, "compounds": True}),
            "proposals": paper.proposals.model_copy(
                update={"min_score": 0.1, "min_area_fraction": 0.0005, "nms_iou": 0.9}
            ),
            "pairing": paper.pairing.model_copy(
                update={"min_similarity": 0.18, "min_margin": 0.002, "mutual_best": True}
            ),
        }
    )


PRESETS: dict[str, Callable[[], PipelineConfig]] = {
    "storybook": _storybook,
    "paper": _paper,
    "gated": _gated,
}


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> PipelineConfig:
    """A preset with some fields replaced.

    Args:
        name: one of `PRESETS`.
        overrides: dotted field names to values, `{"pairing.clip": "ViT-B-16/openai"}`; a name
            that goes through a list or the arms applies to each of its members, as in
            `benchmarks.ensemble_weight` and `arms.epochs`.

    Raises:
        OvsegError: for an unknown preset or field, or a value of the wrong kind.
    """
    if name not in PRESETS:
        raise OvsegError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()._with(overrides or {})


def _assign(values: Any, path: list[str], value: Any, whole: str) -> None:
    """Set one dotted field in nested dicts, tuples of dicts and dicts of tuples."""
    if isinstance(values, tuple | list):
        for item in values:
            _assign(item, path, value, whole)
    elif not isinstance(values, dict):  # a plain value, or a stage this preset leaves out
        raise OvsegError(f"no setting named {whole!r}: `ovseg settings` lists them all")
    elif path[0] not in values:
        if not values or not all(isinstance(item, tuple | list) for item in values.values()):
            raise OvsegError(f"no setting named {whole!r}: `ovseg settings` lists them all")
        for item in values.values():  # the arms: lists of phases by name
            _assign(item, path, value, whole)
    elif len(path) == 1:
        values[path[0]] = value
    else:
        _assign(values[path[0]], path[1:], value, whole)


def settings(config: Config, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every setting of a configuration as (dotted name, value as JSON, description).

    Lists of stages and the phases of the arms are shown by their first member, under the dotted
    name that sets all of them.
    """
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if isinstance(value, dict):
            value = tuple(phase for phases in value.values() for phase in phases)
        if isinstance(value, tuple) and value and isinstance(value[0], Config):
            value = value[0]
        if isinstance(value, Config):
            yield from settings(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, default=str)
            yield f"{prefix}{name}", text, field.description or ""


def parse_setting(text: str) -> tuple[str, Any]:
    """`"pairing.min_margin=0.01"` as name and value; the value is read as JSON, else as text.

    Raises:
        OvsegError: where there is no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise OvsegError(f"setting {text!r} has no value: write name=value")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def configure(
    preset: str,
    *,
    root: Path | None = None,
    captions: Path | None = None,
    images: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """The configuration of a run: a preset, over the embedded world or over a user's own images.

    Args:
        preset: one of `PRESETS`.
        root: folder of all results; the preset's own where empty.
        captions: COCO captions JSON; goes with `images`.
        images: folder of the images it names.
        overrides: dotted settings to replace, as for `load_preset`.

    Raises:
        OvsegError: for what `load_preset` refuses, captions without images or the reverse, and
            paths that do not exist.
    """
    config = load_preset(preset, overrides)
    if root is not None:
        config = config.model_copy(update={"root": root})
    if (captions is None) != (images is None):
        raise OvsegError("captions and images go together: give both or neither")
    if captions is not None and images is not None:
        for path in (captions, images):
            if not path.exists():
                raise OvsegError(f"{path} does not exist: give the captions file and its images")
        config = config.model_copy(update={"mining_world": None})
        return config.with_source(captions.resolve(), images.resolve())
    if config.mining_world is None:
        raise OvsegError(
            f"preset {preset} mines your images: give --captions FILE.json and --images FOLDER"
        )
    return config
