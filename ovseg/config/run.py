"""The settings of a whole run, each said once, and the stage configurations derived from them.

A setting is named by its dotted path, as in `mining.pairing.min_margin`; a name that goes through a
list of stages or through the arms sets each member, as in `arms.epochs`. `ovseg settings` lists
them.

What stages share stands in `data`, `models` and `execution`; a stage's own setting of the same name
goes before it, and `None` there means *as models* or *as execution*. Steps take what is derived:
`run.images`, `run.nouns`, `run.proposals`, `run.pairing`, `run.phases`, `run.scored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ovseg.config.base import DEVICES, Config, PairSource, Precision, execution
from ovseg.config.data import DataConfig, ImagesConfig
from ovseg.config.mining import (
    MiningConfig,
    NounsConfig,
    PairingConfig,
    ProposalsConfig,
    TableConfig,
    TextsConfig,
)
from ovseg.config.overrides import assign, check_known, check_value, in_words
from ovseg.config.scoring import BenchmarkConfig, BenchmarkSettings
from ovseg.config.systems import system_settings
from ovseg.config.training import FinetuneConfig, PhaseSettings
from ovseg.errors import OvsegError
from ovseg.files.locations import LocalPath, ModelName, PublicUrl


class ModelsConfig(Config):
    """The models of a run, where no stage names another."""

    clip: ModelName = Field("storybook", description="storybook, a folder or ARCH/pretrained")
    maskformer: ModelName = Field("storybook", description="storybook, a folder or a hub id")
    parser: ModelName = Field("storybook", description="spaCy pipeline: storybook, package or path")
    device: str = execution("auto", DEVICES)
    precision: Precision = Field("fp32", description="of the forward pass")


class TrackingConfig(Config):
    """What is written down of a run."""

    uri: PublicUrl | None = execution(None, "MLflow server; defaults to <root>/mlflow.db")
    curve_images: int | None = Field(
        None, ge=1, description="learning curves look at the first n images of the first benchmark"
    )


class ExecutionConfig(Config):
    """How the stages of a run are run, whatever they compute."""

    decode_workers: int = execution(0, "workers that decode images; 0 decodes in place", ge=0)
    max_bad_fraction: float = execution(
        0.05, "share of a stage's items that may be bad; more stop it", ge=0, le=1
    )


class RunConfig(Config):
    """Everything one run does, from captions and images to benchmark numbers."""

    preset: str = Field(description="name of the preset this began as")
    seed: int = Field(
        0, ge=0, description="of the training order and the storybook's seen and unseen classes"
    )
    expect: str = Field(description="what the run should reach, on which hardware, in what time")
    root: LocalPath = execution(Path("runs"), "folder of all results")
    data: DataConfig = DataConfig()
    models: ModelsConfig = ModelsConfig()
    mining: MiningConfig = MiningConfig()
    curation: ModelName = Field("paper", description="query in sql/curation, or a path to one")
    arms: dict[str, tuple[PhaseSettings, ...]] = Field(
        description="training phases of each compared model, in order"
    )
    benchmarks: tuple[BenchmarkSettings, ...] = ()
    tracking: TrackingConfig = TrackingConfig()
    execution: ExecutionConfig = ExecutionConfig()

    @property
    def _shared(self) -> dict[str, Any]:
        """What stages take where they set nothing else, by the name of their field."""
        return {**dict(self.models), **dict(self.execution), "seed": self.seed}

    # ------------------------------------------------------------------------------------------
    # The stages

    @property
    def images(self) -> ImagesConfig:
        """Which images and captions are read."""
        return self.data.filled(ImagesConfig, image_root=self.data.images, **self._shared)

    @property
    def nouns(self) -> NounsConfig:
        """How nouns are found."""
        return self.mining.nouns.filled(NounsConfig, **self._shared)

    @property
    def proposals(self) -> ProposalsConfig:
        """How masks are proposed, or read from ground truth for pairs that are made of it."""
        paths = {"image_root": self.data.images, "labels": self.data.labels}
        made = self.mining.proposals.filled(ProposalsConfig, **paths, **self._shared)
        if self.source == "mined":
            return made
        return made.model_copy(update={"source": "ground_truth"})

    @property
    def pairing(self) -> PairingConfig:
        """How nouns and masks are paired."""
        return self.mining.pairing.filled(
            PairingConfig,
            dataset=self.data.dataset,
            source="gt_noun" if self.source == "gt_noun" else "mined",
            round=self.mining.round,
            image_root=self.data.images,
            **self._shared,
        )

    @property
    def texts(self) -> TextsConfig:
        """Text embeddings as the pairing compares them."""
        return TextsConfig(
            clip=self.pairing.clip, template=self.pairing.template, device=self.pairing.device
        )

    @property
    def table(self) -> TableConfig:
        """The published table of the pairs; labels are the same in every mining round."""
        mining_round = 0 if self.source == "gt_label" else self.mining.round
        return TableConfig(dataset=self.data.dataset, round=mining_round, source=self.source)

    @property
    def phases(self) -> dict[str, tuple[FinetuneConfig, ...]]:
        """The training phases of each arm."""
        shared = {"image_root": self.data.images, **self._shared}
        return {
            arm: tuple(phase.filled(FinetuneConfig, **shared) for phase in phases)
            for arm, phases in self.arms.items()
        }

    @property
    def scored(self) -> tuple[BenchmarkConfig, ...]:
        """How images are segmented on each benchmark."""
        return tuple(item.filled(BenchmarkConfig, **self._shared) for item in self.benchmarks)

    @property
    def serving(self) -> BenchmarkConfig:
        """How a registered model segments: as on the first benchmark, else with mining's models."""
        if self.scored:
            return self.scored[0]
        return BenchmarkConfig(clip=self.pairing.clip, **self.proposals.unlabelled())

    # ------------------------------------------------------------------------------------------
    # What hangs on several settings

    @property
    def miniature(self) -> bool:
        """Whether it is the embedded compact models that are scored: figures have to say so."""
        return any(item.clip.startswith("storybook") for item in self.scored)

    @property
    def scores_pairs(self) -> bool:
        """Whether what is scored hangs on pairs or captions, and not on given models alone."""
        return any(self.arms.values()) or any(
            item.retrieval_weight or item.prompting == "mined" for item in self.benchmarks
        )

    @property
    def oracles(self) -> dict[str, str]:
        """The oracle of each benchmark that uses one."""
        return {item.benchmark: item.oracle for item in self.benchmarks if item.oracle != "none"}

    @property
    def source(self) -> PairSource:
        """The source of the pairs, once `of_source` has said which."""
        return self.mining.sources[0] if self.mining.sources else "mined"

    # ------------------------------------------------------------------------------------------
    # The same run with something changed

    def of_source(self, source: PairSource) -> RunConfig:
        """The same run over the pairs of one source."""
        return self.changed("mining", sources=(source,))

    def changed(self, section: str, **values: Any) -> RunConfig:
        """Return the same run with fields of one of its sections replaced, unchecked.

        Args:
            section: `data`, `models`, `mining`, `tracking` or `execution`.
            values: by the names of its fields.
        """
        part = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: part})

    def with_benchmark_root(self, name: str, root: Path) -> RunConfig:
        """The same run with the folder of one prepared benchmark."""
        benchmarks = tuple(
            item.model_copy(update={"root": root}) if item.benchmark == name else item
            for item in self.benchmarks
        )
        return self.model_copy(update={"benchmarks": benchmarks})

    def replaced(self, overrides: Mapping[str, Any]) -> RunConfig:
        """The same run with some settings, by dotted name, replaced.

        Raises:
            OvsegError: for an unknown name, one that a setting had before, or a value of the wrong
                kind.
        """
        values = self.model_dump(mode="python")
        if (system := overrides.get("benchmarks.system")) is not None:  # by hand goes before it
            named = system_settings(system, miniature=self.data.benchmark_world is not None)
            by_hand = {f"benchmarks.{name.removeprefix('models.')}" for name in overrides}
            named = {name: value for name, value in named.items() if name not in by_hand}
            overrides = {**named, **overrides}
        for path, value in overrides.items():
            check_known(RunConfig, path, value)
            check_value(value, path)
            assign(values, path.split("."), value, path)
        try:
            return RunConfig(**values)
        except ValidationError as error:
            raise OvsegError(in_words(error)) from error
