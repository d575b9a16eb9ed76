"""The plan of `ovseg ablate`: each cell of some tables as a configuration of a whole run.

    plan = plan_ablations(chosen_tables(["ensemble"]), "storybook", seeds=3)
    plan.tables[0].runs[0].config

All cells of a seed share one root, so common parts are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovseg.ablations.cells import Cell, Settings, Table
from ovseg.config.checks import check_heard
from ovseg.config.mining import pair_sources
from ovseg.config.reporting import StudyConfig
from ovseg.config.request import resolve, resolve_seeds
from ovseg.config.run import RunConfig
from ovseg.config.training import PhaseSettings
from ovseg.errors import OvsegError
from ovseg.files.access import check_file_target, check_replaceable
from ovseg.files.digests import digest_json

TUNED_LIKE = {
    "image_encoder": "image_encoder",
    "joint": "image_encoder",
    "joint_pixel_prompts": "image_encoder",
}
"""The preset's phase that a phase inherits settings from; defaults to that of mask prompts."""


def cell_config(
    base: RunConfig, table: str, name: str, cell: Cell, miniature: Settings | None = None
) -> RunConfig:
    """Return the run configuration of one cell.

    Args:
        base: the preset with the user's changes, over its images.
        table: name of the ablation.
        name: of the cell.
        cell: the cell.
        miniature: settings of all cells of its table in the embedded world.

    Raises:
        OvsegError: for an unknown setting, a phase that the preset has no settings for, or fewer
            captions read than the cell trains on.
    """
    arm = f"{table}-{name}"
    phases = [_phase(base, settings) for settings in cell.trains]
    arms = {arm: tuple(phase.model_dump() for phase in phases)}
    shared = {} if base.data.benchmark_world is None else dict(miniature or {})
    config = base.replaced({"arms": arms, **shared, **cell.settings})
    read = config.data.captions_per_image
    if config.curation == "five_captions" and read is not None and read < 5:
        raise OvsegError(
            f"cell {name} of {table} trains on nouns of 5 captions, but {read} per image is read:"
            " give --set data.captions_per_image=5"
        )
    return config


def _phase(base: RunConfig, settings: Settings) -> PhaseSettings:
    """Return the preset's phase with the cell's changes, without snapshots.

    Prompts trained jointly with the encoder keep the learning rate they have alone.
    """
    own = {phase.trains: phase for phases in base.arms.values() for phase in phases}
    trains = settings["trains"]
    like = own.get(trains, own.get(TUNED_LIKE.get(trains, "mask_prompts")))
    if like is None:
        raise OvsegError(
            f"preset {base.preset} trains no arm as {trains} is trained: leave arms and system as"
            " they are"
        )
    prompts = own.get("mask_prompts", like)
    shared: dict[str, Any] = {"prompt_depth": prompts.prompt_depth, "snapshots": 0}
    if trains.startswith("joint"):
        shared["prompt_learning_rate"] = prompts.learning_rate
    return PhaseSettings(**{**like.model_dump(), **shared, **settings})


def rounds(config: RunConfig) -> list[RunConfig]:
    """Return the mining rounds a cell needs, from 0 to its own; empty if it trains nothing.

    Each round is mined and its arm trained before the next round pairs with the trained CLIP.
    """
    if not any(config.arms.values()):
        return []
    return [config.changed("mining", round=n) for n in range(config.mining.round + 1)]


@dataclass(frozen=True)
class CellRun:
    """One cell with one seed."""

    table: str
    name: str
    cell: Cell
    config: RunConfig

    @property
    def arm(self) -> str:
        """The name of its one model in catalog and tracking."""
        return f"{self.table}-{self.name}"

    @property
    def key(self) -> str:
        """`<seed>/<cell>`."""
        return f"{self.config.seed}/{self.name}"


@dataclass(frozen=True)
class PlannedTable:
    """A table and its runs, seed by seed."""

    name: str
    table: Table
    runs: tuple[CellRun, ...]

    def comparison(self, benchmark: str, scored: Sequence[str]) -> StudyConfig:
        """Configure the comparison of its cells.

        Args:
            benchmark: the benchmark.
            scored: `<seed>/<cell>` of the scored cells.
        """
        there = {key.partition("/")[2] for key in scored}
        arms = tuple((n, cell.title) for n, cell in self.table.cells.items() if n in there)
        return StudyConfig(
            table=self.name,
            benchmark=benchmark,
            arms=arms,
            baseline=self.table.reference,
            favorite="",
            claims=self.table.claims,
        )


@dataclass(frozen=True)
class Plan:
    """The runs of one call.

    Attributes:
        preset: its name.
        seeds: number of seeds.
        root: folder of all results, `<root>/seed-<n>` for each seed.
        tracking_uri: MLflow server; defaults to SQLite in the root.
        tables: in order.
    """

    preset: str
    seeds: int
    root: Path
    tracking_uri: str | None
    tables: tuple[PlannedTable, ...]

    @property
    def title(self) -> str:
        """Title of the run."""
        names = ", ".join(planned.name for planned in self.tables)
        return f"ablations of {self.preset}: {names}"

    @property
    def runs(self) -> Iterator[CellRun]:
        """Yield the runs of all tables."""
        return (run for planned in self.tables for run in planned.runs)

    @property
    def miniature(self) -> bool:
        """Whether it is scored on the embedded world."""
        return any(run.config.data.benchmark_world is not None for run in self.runs)


def plan_ablations(
    tables: Mapping[str, Table],
    preset: str,
    *,
    seeds: int,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: Settings | None = None,
    out: Path | None = None,
) -> Plan:
    """Configure and check every cell of some tables.

    Args:
        tables: by name, from `ovseg.ablations.tables.registry.chosen_tables`.
        preset: one of `ovseg.config.presets.PRESETS`.
        seeds: number of seeds; cells that are not repeated run only with seed 0.
        root: folder of all results; defaults to the preset's own with `-ablations` appended, so
            that `ovseg study` and the catalog of `ovseg run` keep to the preset's own models.
        captions: as for `ovseg.config.request.resolve`.
        images: as for `ovseg.config.request.resolve`.
        seed: rejected, as the seeds are numbered from 0.
        overrides: settings of every cell, by dotted name; the cell's own take precedence.
        out: page to write, with a folder of its name for the plots.

    Raises:
        OvsegError: for what `resolve_seeds` or a cell rejects, no benchmark, or a page among the
            results.
    """
    given: dict[str, Any] = {"captions": captions, "images": images, "overrides": overrides}
    given["alone"] = False  # a cell may use settings that the preset does not
    if root is None:
        own = resolve(preset, **given).root
        root = own.with_name(f"{own.name}-ablations")
    bases = resolve_seeds(preset, seeds=seeds, root=root, seed=seed, **given)
    if not bases[0].benchmarks:
        raise OvsegError(
            f"preset {preset} has no benchmark to score cells on: give --data FOLDER, made by"
            " `ovseg prepare`"
        )
    if out is not None and out.resolve().is_relative_to(bases[0].root.parent.resolve()):
        raise OvsegError(
            f"--out {out} lies among the results in {bases[0].root.parent}, whose folders its plots"
            " could replace: name a page elsewhere"
        )
    planned = [
        PlannedTable(
            name,
            table,
            tuple(
                CellRun(name, slug, cell, cell_config(base, name, slug, cell, table.miniature))
                for base in bases
                for slug, cell in table.cells.items()
                if cell.repeated or base.seed == bases[0].seed
            ),
        )
        for name, table in ((name, table.of(preset)) for name, table in tables.items())
    ]
    check_heard((run.config for table in planned for run in table.runs), overrides or {})
    return Plan(preset, seeds, bases[0].root.parent, bases[0].tracking.uri, tuple(planned))


@dataclass(frozen=True)
class Cost:
    """How often each step is computed; shared steps count once."""

    minings: int
    trainings: int
    benchmarks: int


def cost(runs: Iterator[CellRun] | Sequence[CellRun]) -> Cost:
    """Count the distinct steps of some runs by their settings.

    Minings differ by seed, source of pairs, round and settings; training phases by start and
    training set; benchmarks by model and settings.
    """
    minings: set[str] = set()
    trainings: set[str] = set()
    benchmarks: set[str] = set()
    for run in runs:
        config, before = run.config, ""
        for each in rounds(config):
            place = [config.seed, str(config.root), before]
            sources = [
                digest_json([*place, _mined(each.of_source(name)), name])
                for name in pair_sources(each)
            ]
            minings.update(sources)
            before = digest_json([sources, each.curation])
            for phase in config.phases[run.arm]:
                before = digest_json([before, phase.result_fields()])
                trainings.add(before)
        for setting in config.scored:
            scored = [str(config.root), before, setting.result_fields()]
            benchmarks.add(digest_json(scored))
    return Cost(len(minings), len(trainings), len(benchmarks))


def _mined(config: RunConfig) -> list[Any]:
    """Return the settings that determine the pairs of one source."""
    world, screening = config.data.mining_world, config.mining.screening
    stages = (config.images, screening, config.nouns, config.proposals, config.pairing)
    return [world and world.result_fields(), *(stage.result_fields() for stage in stages)]


MADE_BY, HEADING = "ovseg ablate", "# Ablations\n\nWritten by one command, not by hand:\n"
"""How a plot folder and a page that may be replaced are recognized."""


def check_page(out: Path) -> None:
    """Reject an existing page or folder of plots that this command did not make.

    Args:
        out: page to write; its plots go to the folder of its name without the suffix.

    Raises:
        OvsegError: if it cannot be a file, or something else would be replaced.
    """
    if not out.suffix or out.is_dir() or any(parent.is_file() for parent in out.parents):
        raise OvsegError(f"--out {out} cannot be a file: name a page, such as docs/ablations.md")
    if out.parent.is_dir():  # otherwise both are new
        check_file_target(out)
        if out.exists() and not _opening(out).startswith(HEADING):
            raise OvsegError(
                f"--out {out} already exists and was not made by {MADE_BY}: name a new page, or"
                " move it away"
            )
        check_replaceable(out.with_suffix(""), MADE_BY, option="--out: the folder of its plots,")


def _opening(page: Path) -> str:
    try:
        with page.open("rb") as stream:
            return stream.read(len(HEADING)).decode("utf-8", "replace")
    except OSError as error:
        raise OvsegError(
            f"--out {page} cannot be read ({error.strerror}): name a new page"
        ) from error
