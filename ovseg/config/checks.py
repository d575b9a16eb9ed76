"""Checks of a run's settings before it begins, because mining takes hours.

They look up every name and reject a setting that has no effect: `--set benchmarks.contexts=3` alone
changes nothing, because only `benchmarks.prompting=mined` has contexts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ovseg.config.base import Config
from ovseg.config.data import DataConfig
from ovseg.config.mining import NounsSettings, PairingSettings, ProposalsSettings
from ovseg.config.registry import READERS, Registry, check_name
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkSettings
from ovseg.config.training import PhaseSettings
from ovseg.errors import OvsegError

SECTIONS: Mapping[str, type[Config]] = {
    "data": DataConfig,
    "mining.nouns": NounsSettings,
    "mining.proposals": ProposalsSettings,
    "mining.pairing": PairingSettings,
    "arms": PhaseSettings,
    "benchmarks": BenchmarkSettings,
}
REGISTRIES: Mapping[str, Mapping[str, object]] = {
    f"{section}.{name}": registries[0]
    for section, kind in SECTIONS.items()
    for name, field in kind.model_fields.items()
    if (registries := [each for each in field.metadata if isinstance(each, Registry)])
    and registries[0] is not READERS  # a benchmark may be any prepared folder
}
"""Dotted name of a setting to the names it may take."""
UNNAMED = {"data.captions_format": "auto"}
"""Values that leave the choice to the program."""


def check_names(config: RunConfig) -> None:
    """Look up every name in a run's settings, without importing its code.

    Raises:
        OvsegError: a name is unknown; the message lists the known ones.
    """
    for setting, registry in REGISTRIES.items():
        for name in _values(config, setting):
            if name != UNNAMED.get(setting):
                check_name(registry, name, setting=setting)


def _values(config: RunConfig, setting: str) -> Iterator[str]:
    """Return the value of a setting in each stage that has it."""
    return (getattr(each, _field(setting)) for each in stages_of(config, setting))


def stages_of(config: RunConfig, name: str) -> list[Any]:
    """Return the configurations that a setting applies to: one, or all benchmarks or phases."""
    section = name.rpartition(".")[0]
    if section == "arms":
        return [phase for phases in config.phases.values() for phase in phases]
    if section == "benchmarks":
        return list(config.scored)
    return [functools.reduce(getattr, section.split("."), config)]


def _field(name: str) -> str:
    return name.rpartition(".")[2]


Heard = Callable[[Any], bool]


def _in(name: str, *values: str) -> tuple[Heard, str]:
    """Return a condition: another setting of the same stage has one of these values."""
    field = _field(name)
    return lambda stage: getattr(stage, field) in values, f"{name} is {' or '.join(values)}"


def _above(name: str) -> tuple[Heard, str]:
    field = _field(name)
    return lambda stage: bool(getattr(stage, field)), f"{name} is more than 0"


def _names_masks(item: BenchmarkSettings) -> bool:
    return item.segmentor == "proposals" and item.oracle != "gt_labels"


_BOTH = (
    lambda item: _names_masks(item) and item.ensemble not in ("clip_only", "maskformer_only"),
    "benchmarks.ensemble asks CLIP and MaskFormer (upstream, geometric, void)",
)
_CLIP = (
    lambda item: _names_masks(item) and item.ensemble != "maskformer_only",
    "CLIP names regions (benchmarks.segmentor=proposals, benchmarks.ensemble is not"
    " maskformer_only)",
)
_CROPS = _in("benchmarks.embedder", "crops")
_FADED = ("attenuated_box", "attenuated_image")

_PIXEL_PROMPTS: tuple[Heard, str] = (
    lambda phase: "pixel_prompts" in phase.trains,
    "arms.trains has pixel prompts",
)
_CAPTIONED: tuple[Heard, str] = (lambda data: data.captions is not None, "--captions is given")

RULES: Mapping[str, tuple[Heard, str]] = {
    "benchmarks.ensemble_weight": _BOTH,
    "benchmarks.seen_weight": _BOTH,
    "benchmarks.mask_threshold": _CLIP,
    "benchmarks.embedder": _CLIP,
    "benchmarks.retrieval_neighbors": _above("benchmarks.retrieval_weight"),
    "benchmarks.contexts": _in("benchmarks.prompting", "mined"),
    "benchmarks.contexts_from": _in("benchmarks.prompting", "mined"),
    "benchmarks.templates": _in("benchmarks.prompting", "templates", "learned"),
    "benchmarks.period": _in("benchmarks.prompting", "templates", "learned"),
    "benchmarks.pixels": (
        lambda item: item.segmentor == "pixels" or item.embedder == "pixel_pooling",
        "benchmarks.segmentor is pixels or benchmarks.embedder is pixel_pooling",
    ),
    "benchmarks.mask_prompts": _CROPS,
    "benchmarks.region": _CROPS,
    "benchmarks.expand_ratio": _CROPS,
    "benchmarks.background": _in("benchmarks.region", *_FADED),
    "benchmarks.image_size": _in("benchmarks.embedder", "mask_tokens", "mask_pooling"),
    "benchmarks.whole_places": _in("benchmarks.embedder", "mask_pooling"),
    "mining.pairing.region": _in("mining.pairing.embedder", "crops"),
    "mining.pairing.expand_ratio": _in("mining.pairing.embedder", "crops"),
    "mining.pairing.image_size": _in("mining.pairing.embedder", "mask_tokens", "mask_pooling"),
    "mining.pairing.whole_places": _in("mining.pairing.embedder", "mask_pooling"),
    "mining.pairing.background": _in("mining.pairing.region", *_FADED),
    "arms.background": _in("arms.region", *_FADED),
    "arms.pixel_strength": _PIXEL_PROMPTS,
    "arms.pixel_background": _PIXEL_PROMPTS,
    "arms.learn_background": _PIXEL_PROMPTS,
    "arms.visual_tokens": _in("arms.trains", "visual_prompts"),
    "arms.visual_depth": _in("arms.trains", "visual_prompts"),
    "arms.relation_temperature": _above("arms.relation_smoothing"),
    "arms.window": _in("arms.input", "stream"),
    "data.path_column": _CAPTIONED,
    "data.caption_column": _CAPTIONED,
    "data.captions_format": _CAPTIONED,
}
"""Dotted name of a setting to when it has an effect, as a function and in words."""

GIVEN = {
    "preset": "--preset",
    "data.captions": "--captions",
    "data.images": "--images",
}
"""Settings that a run takes from an option, whatever they were set to."""

TRAINING = ("arms",)
SCORING = ("benchmarks", "data.benchmark_world", "tracking.curve_images")
SCREENED = ("benchmarks.benchmark", "benchmarks.root", "benchmarks.limit")
"""Benchmark settings that mining uses: their images must not be trained on."""


SCORED = ("data.prepared", "data.scored", "data.benchmark_world")
"""Data settings that scoring uses."""


def check_heard(configs: Iterable[RunConfig], overrides: Mapping[str, Any]) -> None:
    """Reject a setting that has no effect in any of some runs.

    Args:
        configs: the runs, with the settings applied.
        overrides: the settings by dotted name.

    Raises:
        OvsegError: saying when the setting has an effect, or which option sets it.
    """
    runs = list(configs)
    for setting in overrides:
        name = _plain(setting)
        if name in GIVEN:
            raise OvsegError(f"setting {setting} comes from {GIVEN[name]}: leave it out")
        if name not in RULES:
            continue
        heard, when = RULES[name]
        stages = [stage for run in runs for stage in stages_of(run, name)]
        if stages and not any(map(heard, stages)):
            raise OvsegError(
                f"setting {setting} has no effect here; it has one only if {when}: set that as"
                " well, or leave it out"
            )


def unheard_by(
    command: str, given: Mapping[str, Sequence[str]], *, mines: bool = True
) -> list[str]:
    """Return the options that have no effect on a command.

    Args:
        command: its name.
        given: option to the settings it stands for, including those of `--set`.
        mines: whether the command needs pairs, in addition to existing models.

    Returns:
        The options, in the order given.
    """
    unused: tuple[str, ...] = ()
    if command == "mine":
        unused = (*TRAINING, *SCORING)
    elif not mines:
        unused = (
            *("data", "mining", "curation", "models.parser", "models.precision"),
            *("execution.decode_workers", *(f"arms.{name}" for name in PhaseSettings.model_fields)),
        )
    exceptions = SCREENED if command == "mine" else SCORED
    return [
        option
        for option, settings in given.items()
        if settings and all(_within(_plain(name), unused, exceptions) for name in settings)
    ]


def _within(name: str, sections: tuple[str, ...], exceptions: tuple[str, ...]) -> bool:
    """Whether a setting is or belongs to one of the sections, but to none of the exceptions."""

    def belongs_to(section: str) -> bool:
        return name == section or name.startswith(f"{section}.")

    return any(map(belongs_to, sections)) and not any(map(belongs_to, exceptions))


def _plain(name: str) -> str:
    """Remove the arm from a dotted name: `arms.both.epochs` becomes `arms.epochs`."""
    parts = name.split(".")
    return ".".join((parts[0], parts[-1])) if parts[0] == "arms" and len(parts) == 3 else name
