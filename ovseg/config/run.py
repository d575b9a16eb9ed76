"""The settings of a whole run, and how they are named, listed and replaced.

A setting is named by its dotted path, as in `pairing.min_margin`; a name that goes through a list
of stages or through the arms sets each member, as in `arms.epochs`. `ovseg settings` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from ovseg.config.base import Config, PairSource, execution
from ovseg.config.data import ImagesConfig, ScreeningConfig, WorldConfig
from ovseg.config.mining import (
    NounsConfig,
    PairingConfig,
    ProposalsConfig,
    TableConfig,
    TextsConfig,
)
from ovseg.config.overrides import _assign, _in_words, _known, _refuse_beyond
from ovseg.config.scoring import BenchmarkConfig
from ovseg.config.systems import system_settings
from ovseg.config.training import FinetuneConfig
from ovseg.errors import OvsegError
from ovseg.files.locations import LocalPath, Location, ModelName, PublicUrl


class PipelineConfig(Config):
    """Everything one run does, from captions and images to benchmark numbers."""

    preset: str = Field(description="name of the preset this began as")
    seed: int = Field(
        0, ge=0, description="of the training order and the storybook's seen and unseen classes"
    )
    expect: str = Field(description="what the run should reach, on which hardware, in what time")
    root: LocalPath = execution(Path("runs"), "folder of all results")
    tracking_uri: PublicUrl | None = execution(None, "MLflow server; defaults to <root>/mlflow.db")
    mining_world: WorldConfig | None = Field(None, description="storybook scenes to mine")
    benchmark_world: WorldConfig | None = Field(None, description="storybook scenes to score on")
    images: ImagesConfig = ImagesConfig()
    screening: ScreeningConfig = ScreeningConfig()
    nouns: NounsConfig = NounsConfig()
    proposals: ProposalsConfig = ProposalsConfig()
    pairing: PairingConfig = PairingConfig()
    panoptic: LocalPath | None = execution(None, "panoptic ground truth to judge the pairs by")
    sources: tuple[PairSource, ...] = Field(
        (), description="of the pairs: mined, gt_label, gt_noun; what curation needs where empty"
    )
    curation: ModelName = Field("paper", description="query in sql/curation, or a path to one")
    arms: dict[str, tuple[FinetuneConfig, ...]] = Field(
        description="training phases of each compared model, in order"
    )
    benchmarks: tuple[BenchmarkConfig, ...] = ()
    data: LocalPath | None = execution(
        None, "folder of prepared benchmarks, each in one of its name"
    )
    scored: tuple[str, ...] = Field(
        (), description="benchmarks of `data` to score, by name; the preset's where empty"
    )
    curve_images: int | None = Field(
        None, ge=1, description="learning curves look at the first n images of the first benchmark"
    )

    @model_validator(mode="after")
    def _one_dataset(self) -> PipelineConfig:
        if self.images.dataset != self.pairing.dataset:
            raise ValueError(
                "images.dataset and pairing.dataset name one data set: make them equal"
            )
        return self

    @property
    def serving(self) -> BenchmarkConfig:
        """How a registered model segments: as on the first benchmark, else with mining's models."""
        if self.benchmarks:
            return self.benchmarks[0]
        return BenchmarkConfig(clip=self.pairing.clip, **self.proposals.unlabelled())

    @property
    def miniature(self) -> bool:
        """Whether it is the embedded compact models that are scored: figures have to say so."""
        return any(item.clip.startswith("storybook") for item in self.benchmarks)

    @property
    def scores_pairs(self) -> bool:
        """Whether what is scored hangs on pairs or captions, and not on given models alone."""
        return any(self.arms.values()) or any(
            item.retrieval_weight or item.prompting == "mined" for item in self.benchmarks
        )

    @property
    def oracles(self) -> dict[str, str]:
        """Of each benchmark in which a stage is given its answer which oracle that is."""
        return {item.benchmark: item.oracle for item in self.benchmarks if item.oracle != "none"}

    @property
    def texts(self) -> TextsConfig:
        """Text embeddings as the pairing compares them."""
        return TextsConfig(
            clip=self.pairing.clip, template=self.pairing.template, device=self.pairing.device
        )

    @property
    def source(self) -> PairSource:
        """The source of the pairs, once `of_source` has said which."""
        return self.sources[0] if self.sources else "mined"

    @property
    def table(self) -> TableConfig:
        """The published table of the pairs; labels are the same in every mining round."""
        mining_round = 0 if self.source == "gt_label" else self.pairing.round
        return TableConfig(dataset=self.pairing.dataset, round=mining_round, source=self.source)

    def of_source(self, source: PairSource) -> PipelineConfig:
        """The same run over the pairs of one source."""
        changed: dict[str, Any] = {"sources": (source,)}
        if source != "mined":
            truth = {"source": "ground_truth"}
            changed["proposals"] = self.proposals.model_copy(update=truth)
        if source == "gt_noun":
            changed["pairing"] = self.pairing.model_copy(update={"source": source})
        return self.model_copy(update=changed)

    def with_source(
        self,
        captions: Location,
        image_root: Location,
        panoptic: Path | None = None,
        labels: Path | None = None,
    ) -> PipelineConfig:
        """The same run over captions and the folder their file names are relative to."""
        return self.replaced(
            {
                **({"panoptic": panoptic} if panoptic else {}),
                **({"proposals.labels": labels} if labels else {}),
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

    def with_rooted(self) -> PipelineConfig:
        """The same run without the benchmarks that have no folder; the embedded world draws its."""
        drawn = "storybook" if self.benchmark_world is not None else None
        kept = tuple(item for item in self.benchmarks if item.root or item.benchmark == drawn)
        return self.model_copy(update={"benchmarks": kept})

    def with_prepared(self, data: Path) -> PipelineConfig:
        """The same run over those benchmarks that have a folder of their name in `data`.

        They are the preset's, of which the embedded world's own and those that have a root already
        stay as they are, or those that `scored` names.

        Raises:
            OvsegError: none of those of the preset is there, or one that is named is missing.
        """
        if self.scored:
            named = self._named(data.resolve())
            return self.model_copy(update={"benchmarks": named, "benchmark_world": None})
        drawn = "storybook" if self.benchmark_world is not None else None
        benchmarks = tuple(
            item if item.root or item.benchmark == drawn else item.model_copy(update={"root": root})
            for item in self.benchmarks
            for root in [data.resolve() / item.benchmark]
            if item.root or item.benchmark == drawn or root.is_dir()
        )
        if all(item.root is None or item in self.benchmarks for item in benchmarks):
            names = ", ".join(item.benchmark for item in self.benchmarks) or "none"
            raise OvsegError(
                f"--data {data} has no folder of a benchmark of preset {self.preset} ({names}):"
                f" `ovseg prepare NAME --root SOURCE --out {data}` makes one, --benchmark names"
                " another"
            )
        return self.model_copy(update={"benchmarks": benchmarks})

    def _named(self, data: Path) -> tuple[BenchmarkConfig, ...]:
        """The benchmarks of `scored`; what the preset does not have is scored as its first one."""
        own = {item.benchmark: item for item in self.benchmarks}
        like = self.benchmarks[0] if self.benchmarks else BenchmarkConfig()
        plain: dict[str, Any] = {"seen": (), "seen_split": ""}  # of the other's classes
        for name in self.scored:
            if name in ("", ".", "..") or "/" in name:
                raise OvsegError(
                    f"--benchmark {name!r} is not the name of a folder of --data {data}"
                )
            if not (data / name).is_dir():
                raise OvsegError(
                    f"--data {data} has no folder {name}: `ovseg prepare {name} --root SOURCE --out"
                    f" {data}` makes one of a published data set, or name one that is there"
                )
        return tuple(
            own.get(name, like.model_copy(update={**plain, "benchmark": name})).model_copy(
                update={"root": data / name}
            )
            for name in dict.fromkeys(self.scored)
        )

    def replaced(self, overrides: Mapping[str, Any]) -> PipelineConfig:
        """The same run with some settings, by dotted name, replaced.

        Raises:
            OvsegError: for an unknown name, or a value of the wrong kind.
        """
        values = self.model_dump(mode="python")
        if (system := overrides.get("benchmarks.system")) is not None:  # by hand goes before it
            named = system_settings(system, miniature=self.benchmark_world is not None)
            overrides = {**named, **overrides}
        for path, value in overrides.items():
            if not _known(PipelineConfig, path.split(".")):
                raise OvsegError(f"no setting named {path!r:.80}: `ovseg settings` lists them all")
            _refuse_beyond(value, path)
            _assign(values, path.split("."), value, path)
        try:
            return PipelineConfig(**values)
        except ValidationError as error:
            raise OvsegError(_in_words(error)) from error
