"""What is wrong with the settings of a run, before it begins: mining first would take hours.

A name that a setting gives is looked up. A setting that nothing listens to is refused, or named
where another command would listen: `--set benchmarks.contexts=3` alone changes nothing, as only
`benchmarks.prompting=mined` has contexts, and whoever gives it expects something else of the run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ovseg.config.registry import (
    EMBEDDERS,
    FORMATS,
    METHODS,
    PROMPTINGS,
    PROPOSERS,
    SEGMENTS,
    SOURCES,
    TEMPLATES,
    check_name,
)
from ovseg.config.run import RunConfig
from ovseg.errors import OvsegError

REGISTRIES: Mapping[str, Mapping[str, object]] = {
    "data.captions_format": FORMATS,
    "mining.proposals.source": SOURCES,
    "mining.proposals.segments": SEGMENTS,
    "arms.trains": METHODS,
    "benchmarks.proposals": PROPOSERS,
    "benchmarks.segments": SEGMENTS,
    "benchmarks.prompting": PROMPTINGS,
    "benchmarks.templates": TEMPLATES,
    "benchmarks.embedder": EMBEDDERS,
}
"""The names that a setting may have, by its dotted name."""
UNNAMED = {"data.captions_format": "auto"}
"""What leaves the choice to the program."""


def check_names(config: RunConfig) -> None:
    """Look up every name that a run is set to; imports none of what it stands for.

    Raises:
        OvsegError: for a name there is not; the message says which there are.
    """
    for setting, registry in REGISTRIES.items():
        for name in _values(config, setting):
            if name != UNNAMED.get(setting):
                check_name(registry, name, setting=setting)


def _values(config: RunConfig, setting: str) -> Iterator[str]:
    """What a setting is in each of the stages that have it."""
    return (getattr(each, _field(setting)) for each in stages_of(config, setting))


def stages_of(config: RunConfig, name: str) -> list[Any]:
    """The configurations that a setting sets: one, or those of all benchmarks or phases."""
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
    """Heard where a setting of the same stage has one of some values."""
    field = _field(name)
    return lambda stage: getattr(stage, field) in values, f"{name} is {' or '.join(values)}"


def _above(name: str) -> tuple[Heard, str]:
    field = _field(name)
    return lambda stage: bool(getattr(stage, field)), f"{name} is more than 0"


_MASKED = (
    lambda item: item.segmentor == "proposals" and item.oracle != "gt_labels",
    "masks are proposed and named (benchmarks.segmentor=proposals, no benchmarks.oracle=gt_labels)",
)
_BOTH = (
    lambda item: _MASKED[0](item) and item.ensemble not in ("clip_only", "maskformer_only"),
    "benchmarks.ensemble asks CLIP and MaskFormer (upstream, geometric, void)",
)
_CLIP = (
    lambda item: _MASKED[0](item) and item.ensemble != "maskformer_only",
    "CLIP names regions (benchmarks.segmentor=proposals, benchmarks.ensemble is not"
    " maskformer_only)",
)
_CROPS = _in("benchmarks.embedder", "crops")
_FADED = ("attenuated_box", "attenuated_image")

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
    "mining.pairing.background": _in("mining.pairing.region", *_FADED),
    "arms.background": _in("arms.region", *_FADED),
    "arms.pixel_strength": (lambda p: "pixel_prompts" in p.trains, "arms.trains has pixel prompts"),
    "arms.pixel_background": (
        lambda phase: "pixel_prompts" in phase.trains,
        "arms.trains has pixel prompts",
    ),
    "arms.learn_background": (
        lambda phase: "pixel_prompts" in phase.trains,
        "arms.trains has pixel prompts",
    ),
    "arms.visual_tokens": _in("arms.trains", "visual_prompts"),
    "arms.visual_depth": _in("arms.trains", "visual_prompts"),
    "arms.relation_temperature": _above("arms.relation_smoothing"),
    "arms.cache_gib": _above("arms.cache_regions"),
    "data.path_column": _CAPTIONED,
    "data.caption_column": _CAPTIONED,
    "data.captions_format": _CAPTIONED,
}
"""By the dotted name of a setting, when a stage listens to it, and that in words."""

GIVEN = {
    "preset": "--preset",
    "data.captions": "--captions",
    "data.images": "--images",
}
"""Settings that a run makes of an option, whatever they were set to."""

TRAINING = ("arms",)
SCORING = ("benchmarks", "data.benchmark_world", "tracking.curve_images")
SCREENED = ("benchmarks.benchmark", "benchmarks.root", "benchmarks.limit")
"""Of a benchmark what mining asks for: its images are not to be trained on."""


SCORED = ("data.prepared", "data.scored", "data.benchmark_world")
"""Of the data of a run what scoring asks for."""


def check_heard(configs: Iterable[RunConfig], overrides: Mapping[str, Any]) -> None:
    """Refuse a setting that none of some runs listens to.

    Args:
        configs: of the runs, with the settings in them.
        overrides: the settings by dotted name.

    Raises:
        OvsegError: saying what the setting takes to have an effect, or which option gives it.
    """
    runs = list(configs)
    for given in overrides:
        name = _plain(given)
        if name in GIVEN:
            raise OvsegError(f"setting {given} is what {GIVEN[name]} gives: leave it out")
        if name not in RULES:
            continue
        heard, when = RULES[name]
        stages = [stage for run in runs for stage in stages_of(run, name)]
        if stages and not any(map(heard, stages)):
            raise OvsegError(
                f"setting {given} has no effect here, as it has one only where {when}: set that as"
                " well, or leave it out"
            )


def unheard_by(
    command: str, given: Mapping[str, Sequence[str]], *, mines: bool = True
) -> list[str]:
    """Which of the given options and settings a command takes nothing from.

    Args:
        command: its name.
        given: by option the settings it stands for, also of `--set`.
        mines: the command needs pairs, and not only models as they are.

    Returns:
        The options, in the order given.
    """
    deaf: tuple[str, ...] = ()
    if command == "mine":
        deaf = (*TRAINING, *SCORING)
    elif command == "finetune":
        deaf = SCORING
    elif not mines:
        deaf = ("data", "mining", "models.parser", "models.precision", "curation")
    spared = SCREENED if command in ("mine", "finetune") else SCORED
    return [
        option
        for option, places in given.items()
        if places and all(_within(_plain(place), deaf, spared) for place in places)
    ]


def _within(name: str, sections: tuple[str, ...], spared: tuple[str, ...]) -> bool:
    """Whether a setting is, or is of, one of some sections, without those that are spared."""

    def of(each: str) -> bool:
        return name == each or name.startswith(f"{each}.")

    return any(map(of, sections)) and not any(map(of, spared))


def _plain(name: str) -> str:
    """A dotted name without the arm in it: `arms.both.epochs` is `arms.epochs`."""
    parts = name.split(".")
    return ".".join((parts[0], parts[-1])) if parts[0] == "arms" and len(parts) == 3 else name
