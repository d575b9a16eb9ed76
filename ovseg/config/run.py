"""The settings of a whole run, each in one place, and the stage configurations derived from them.

A setting is named by its dotted path, as in `mining.pairing.min_margin`; a name that goes through a
list of stages or through the arms sets each member, as in `arms.epochs`. `ovseg settings` lists
them.

Shared settings are in `data`, `models` and `execution`; a stage's own setting of the same name goes
first, and `None` there means *as models* or *as execution*. Steps take the derived configurations:
`run.images`, `run.nouns`, `run.proposals`, `run.pairing`, `run.phases`, `run.scored`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ovseg.config.base import DEVICES, Config, PairSource, Precision, execution
from ovseg.config.data import DataConfig, ImagesConfig
from ovseg.config.mining import (
    MiningConfig,
    NounsConfig,
    PairingConfig,
    PairingSettings,
    ProposalsConfig,
    ProposalsSettings,
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
    """The default models of a run's stages."""

    clip: ModelName = Field("storybook", description="storybook, a folder or ARCH/pretrained")
    maskformer: ModelName = Field("storybook", description="storybook, a folder or a hub id")
    parser: ModelName = Field("storybook", description="spaCy pipeline: storybook, package or path")
    device: str = execution("auto", DEVICES)
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32",
        description="precision of the forward pass of mining and training; auto: bf16 on CUDA, fp32"
        " elsewhere, and a stage's digest has which",
    )

    def precision_on(self, device: str | None) -> Precision:
        """Return the precision of a stage.

        Args:
            device: the stage's own device; None for that of the models.
        """
        if self.precision != "auto":
            return self.precision
        name = device or self.device
        if name == "auto":
            import torch  # only a run that asks for it waits for torch

            return "bf16" if torch.cuda.is_available() else "fp32"
        return "bf16" if name.startswith("cuda") else "fp32"


class TrackingConfig(Config):
    """Tracking of a run."""

    uri: PublicUrl | None = execution(None, "MLflow server; defaults to <root>/mlflow.db")
    curve_images: int | None = Field(
        None, ge=1, description="learning curves use the first n images of the first benchmark"
    )


class ExecutionConfig(Config):
    """Execution of a run's stages, without effect on their results."""

    workers: int | None = execution(
        None, "shards and trainings computed at once on a CPU; defaults to its cores", ge=1
    )
    decode_workers: int = execution(0, "workers that decode images; 0 decodes in place", ge=0)
    max_bad_fraction: float = execution(
        0.05, "share of a stage's items that may be bad; more stop it", ge=0, le=1
    )


class RunConfig(Config):
    """Settings of one run, from captions and images to benchmark scores."""

    preset: str = Field(description="name of the preset this began as")
    seed: int = Field(
        0,
        ge=0,
        description="seed of the training order and the storybook's seen and unseen classes",
    )
    expect: str = Field(description="expected scores, hardware and time")
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
        """Defaults of the stages' own settings, by field name."""
        return {**dict(self.models), **dict(self.execution), "seed": self.seed}

    def _shared_with_precision(
        self, stage: ProposalsSettings | PairingSettings | PhaseSettings
    ) -> dict[str, Any]:
        """Return `_shared` with the precision that a stage without its own computes in."""
        if stage.precision is not None:
            return self._shared
        return {**self._shared, "precision": self.models.precision_on(stage.device)}

    # ------------------------------------------------------------------------------------------
    # The stages

    @property
    def images(self) -> ImagesConfig:
        """Configuration of reading images and captions."""
        return self.data.filled(ImagesConfig, image_root=self.data.images, **self._shared)

    @property
    def nouns(self) -> NounsConfig:
        """Configuration of extracting nouns."""
        return self.mining.nouns.filled(NounsConfig, **self._shared)

    @property
    def proposals(self) -> ProposalsConfig:
        """Configuration of proposing masks; ground-truth pairs read them from ground truth."""
        paths = {"image_root": self.data.images, "labels": self.data.labels}
        config = self.mining.proposals.filled(
            ProposalsConfig, **paths, **self._shared_with_precision(self.mining.proposals)
        )
        if self.source == "mined":
            return config
        return config.model_copy(update={"source": "ground_truth"})

    @property
    def pairing(self) -> PairingConfig:
        """Configuration of pairing nouns and masks."""
        return self.mining.pairing.filled(
            PairingConfig,
            dataset=self.data.dataset,
            source="gt_noun" if self.source == "gt_noun" else "mined",
            round=self.mining.round,
            image_root=self.data.images,
            **self._shared_with_precision(self.mining.pairing),
        )

    @property
    def texts(self) -> TextsConfig:
        """Configuration of the noun embeddings that pairing uses."""
        return TextsConfig(
            clip=self.pairing.clip, template=self.pairing.template, device=self.pairing.device
        )

    @property
    def table(self) -> TableConfig:
        """Configuration of the published pair table; labels are the same in every mining round."""
        mining_round = 0 if self.source == "gt_label" else self.mining.round
        return TableConfig(dataset=self.data.dataset, round=mining_round, source=self.source)

    @property
    def phases(self) -> dict[str, tuple[FinetuneConfig, ...]]:
        """The training phases of each arm."""
        root = self.data.images
        return {
            arm: tuple(
                phase.filled(FinetuneConfig, image_root=root, **self._shared_with_precision(phase))
                for phase in phases
            )
            for arm, phases in self.arms.items()
        }

    @property
    def scored(self) -> tuple[BenchmarkConfig, ...]:
        """Configuration of segmenting each benchmark."""
        return tuple(item.filled(BenchmarkConfig, **self._shared) for item in self.benchmarks)

    @property
    def serving(self) -> BenchmarkConfig:
        """Configuration of a registered model: the first benchmark's, or one of mining's models."""
        if self.scored:
            return self.scored[0]
        return BenchmarkConfig(clip=self.pairing.clip, **self.proposals.unlabelled())

    # ------------------------------------------------------------------------------------------
    # Derived from several settings

    @property
    def miniature(self) -> bool:
        """Whether the embedded compact models are scored, which figures must mention."""
        return any(item.clip.startswith("storybook") for item in self.scored)

    @property
    def scores_pairs(self) -> bool:
        """Whether the scores depend on pairs or captions, not only on existing models."""
        return any(self.arms.values()) or any(
            item.retrieval_weight or item.prompting == "mined" for item in self.benchmarks
        )

    @property
    def oracles(self) -> dict[str, str]:
        """The oracle of each benchmark that uses one."""
        return {item.benchmark: item.oracle for item in self.benchmarks if item.oracle != "none"}

    @property
    def source(self) -> PairSource:
        """The source of the pairs, after `of_source`."""
        return self.mining.sources[0] if self.mining.sources else "mined"

    # ------------------------------------------------------------------------------------------
    # The same run with something changed

    def of_source(self, source: PairSource) -> RunConfig:
        """Return the same run over the pairs of one source."""
        return self.changed("mining", sources=(source,))

    def changed(self, section: str, **values: Any) -> RunConfig:
        """Return the same run with fields of one of its sections replaced, unchecked.

        Args:
            section: `data`, `models`, `mining`, `tracking` or `execution`.
            values: field name to value.
        """
        part = getattr(self, section).model_copy(update=values)
        return self.model_copy(update={section: part})

    def with_benchmark_root(self, name: str, root: Path) -> RunConfig:
        """Return the same run with the folder of one prepared benchmark set."""
        benchmarks = tuple(
            item.model_copy(update={"root": root}) if item.benchmark == name else item
            for item in self.benchmarks
        )
        return self.model_copy(update={"benchmarks": benchmarks})

    def replaced(self, overrides: Mapping[str, Any]) -> RunConfig:
        """Return the same run with some settings replaced, by dotted name.

        Raises:
            OvsegError: a name is unknown or was renamed, or a value is of the wrong kind.
        """
        values = self.model_dump(mode="python")
        if (system := overrides.get("benchmarks.system")) is not None:  # explicit settings win
            implied = system_settings(system, miniature=self.data.benchmark_world is not None)
            section = overrides.get("models")
            models = [name.removeprefix("models.") for name in overrides if "models." in name]
            models += section if isinstance(section, Mapping) else []
            for name in models:
                implied.pop(f"benchmarks.{name}", None)
            overrides = {**implied, **overrides}
        for path, value in overrides.items():
            check_known(RunConfig, path, value)
            check_value(value, path)
            assign(values, path.split("."), value, path)
        try:
            return RunConfig(**values)
        except ValidationError as error:
            raise OvsegError(in_words(error)) from error
