"""Resolves a request (preset, images, labels, settings) into the configuration of a run.

`ovseg.config.presets` has the presets; the command line and the deployments call this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovseg.config.checks import check_heard, check_names
from ovseg.config.mining import ProposalsSettings, pair_sources
from ovseg.config.model_names import MASKFORMER_CONFIG
from ovseg.config.overrides import parse_fractions
from ovseg.config.prepared import with_benchmarks
from ovseg.config.presets import CHECKPOINT_PRESETS, PRESETS, compact_maskformer, load_preset
from ovseg.config.run import RunConfig
from ovseg.errors import OvsegError
from ovseg.files.access import check_folder, local
from ovseg.files.locations import Location, located, reaching, reason
from ovseg.files.urls import holds_secret
from ovseg.storybook.weights import storybook_weights


def resolve(
    preset: str,
    *,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    mines: bool = True,
    alone: bool = True,
) -> RunConfig:
    """Return the configuration of a run over the embedded world or a user's own images.

    Args:
        preset: one of `PRESETS`.
        root: folder of all results; defaults to the preset's.
        captions: captions file or folder, a path or URL, in any of the formats of
            `ovseg.config.registry.FORMATS`.
        images: folder or URL of the images it names; goes with `captions`.
        seed: the setting `seed`, which goes before `overrides`; defaults to theirs or 0.
        overrides: dotted settings to replace, as for `load_preset`.
        mines: whether pairs are always mined; False mines them only if scoring needs them.
        alone: whether this is the whole request; False if more is set on top, as in the cells of
            an ablation, so that settings without an effect are allowed.

    Raises:
        OvsegError: see `load_preset` and `check_names`; or captions and images do not come
            together, a path does not exist, or a setting has no effect.
    """
    config = changed_preset(preset, overrides, seed=seed)
    if root is not None:
        config = config.model_copy(update={"root": local(root)})
    prepared, scored = config.data.prepared, config.data.scored
    if scored and prepared is None:
        raise OvsegError(
            f"--benchmark {scored[0]} is a folder in --data: give --data FOLDER as well"
        )
    if prepared is not None:
        check_folder(prepared, "--data")
    source, folder = _source(captions, images)
    config = _over_images(config, source, folder, root, mines=mines)
    if alone:
        _check_labels(config, captions)
        check_heard([config], overrides or {})
    return config


def _over_images(
    config: RunConfig,
    source: Location | None,
    folder: Location | None,
    root: Path | None,
    *,
    mines: bool,
) -> RunConfig:
    """Apply captions, images and labels to a changed preset."""
    preset = config.preset
    if preset in CHECKPOINT_PRESETS:
        return _scoring(config, source)
    config = with_benchmarks(config)
    if not mines and not config.benchmarks:
        raise OvsegError(
            f"preset {preset} scores prepared benchmarks: give --data FOLDER, which `ovseg prepare`"
            " makes"
        )
    pair_sources(config)  # rejects a curation that does not exist
    if source is not None and folder is not None:
        paths = {"captions": source.resolve(), "images": folder.resolve()}
        return _own_images(config, folder, root).changed("data", **paths)
    if config.data.labels is not None:
        return _labels_alone(config, config.data.labels, root)
    if config.data.mining_world is None and (mines or config.scores_pairs):
        raise OvsegError(
            f"preset {preset} mines your images: give --captions FILE and --images FOLDER"
        )
    return config


def changed_preset(
    preset: str, overrides: Mapping[str, Any] | None, *, seed: int | None = None
) -> RunConfig:
    """Load a preset, replace settings and check their names, without images yet.

    Raises:
        OvsegError: see `load_preset` and `check_names`; or a setting is a URL that holds a secret.
    """
    for name, value in (overrides or {}).items():
        if name.partition(".")[0] not in ("tracking", "tracking_uri") and holds_secret(value):
            raise OvsegError(
                f"setting {name} is a URL with a user, a password or a token, which would be stored"
                " with every run: leave it out and set the server's environment variables"
            )
    config = load_preset(preset, {**(overrides or {}), **({} if seed is None else {"seed": seed})})
    if overrides:
        check_names(config)
    return config


def _source(
    captions: str | Path | None, images: str | Path | None
) -> tuple[Location, Location] | tuple[None, None]:
    """Locate the captions and the folder of their images, and check that both exist."""
    if captions is None and images is None:
        return None, None
    if captions is None or images is None:
        raise OvsegError("captions and images go together: give both or neither")
    source, folder = located(captions), located(images)
    for path in (source, folder):
        try:
            with reaching(path):
                exists = path.exists()
        except OSError as error:
            raise OvsegError(
                f"{path} cannot be reached: {reason(error)}; check its name, its permissions and,"
                " for s3://, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL"
            ) from error
        if not exists:
            raise OvsegError(f"{path} does not exist: give the captions file and its images")
        if isinstance(path, Path) and not os.access(path, os.R_OK):
            raise OvsegError(f"{path} is not readable: change its permissions")
    if isinstance(folder, Path):
        check_folder(folder, "--images")
    return source, folder


def _scoring(config: RunConfig, captions: Location | None) -> RunConfig:
    """Check and complete a preset that scores a checkpoint."""
    if captions is not None:
        raise OvsegError(f"preset {config.preset} mines nothing: leave captions and images out")
    if not all(item.clip and item.maskformer for item in config.scored):
        raise OvsegError(
            f"preset {config.preset} scores an imported checkpoint: give --checkpoint FOLDER, which"
            " `ovseg import-checkpoint` makes"
        )
    if config.data.prepared is None and any(item.root is None for item in config.benchmarks):
        raise OvsegError(
            f"preset {config.preset} scores prepared benchmarks: give --data FOLDER, which holds"
            f" some of {', '.join(item.benchmark for item in config.benchmarks)}"
        )
    return config if config.data.prepared is None else with_benchmarks(config)


def _check_labels(config: RunConfig, captions: object) -> None:
    """Check that labels given with captions exist and are used, and that used ones are given."""
    if captions is None:
        return
    labels = config.data.labels
    gt_sources = [source for source in pair_sources(config) if source.startswith("gt_")]
    if labels is None and gt_sources:
        raise OvsegError(f"{gt_sources[0]} pairs are made from labels: give --labels FOLDER")
    if labels is not None and not gt_sources:
        raise OvsegError(
            f"--labels {labels} has no effect without --source gt_label or gt_noun, or a curation"
            " that selects from them: leave it out, or add one"
        )
    if labels is not None:
        check_folder(labels, "--labels")


def _labels_alone(config: RunConfig, labels: Path, root: Path | None) -> RunConfig:
    """Return a run over the images of a labeled set, without captions or nouns."""
    if not labels.is_dir():
        raise OvsegError(f"{labels} is not a folder: give the folder of a labeled set as --labels")
    if any(source != "gt_label" for source in pair_sources(config)):
        raise OvsegError(
            f"--labels {labels} alone gives gt_label pairs: add --source gt_label (to train on"
            " them --set curation=gt_labels), or --captions and --images for nouns"
        )
    if config.data.captions_format not in ("auto", "labelled"):
        raise OvsegError(
            f"--labels {labels} alone has no captions to read as {config.data.captions_format}:"
            " leave --captions-format out"
        )
    config = _own_images(config, labels, root)
    label_set = config.mining.proposals.label_set
    if label_set not in ("", labels.resolve().name):
        raise OvsegError(
            f"--labels {labels} alone is read as {labels.resolve().name}, not as"
            f" {label_set}: name the folder so, or give --captions and --images"
        )
    folder = labels.resolve()
    return config.changed(
        "data", captions=folder, images=folder, captions_format="labelled", uncaptioned=True
    )


def resolve_seeds(
    preset: str,
    *,
    seeds: int,
    root: Path | None = None,
    captions: str | Path | None = None,
    images: str | Path | None = None,
    seed: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    alone: bool = True,
) -> list[RunConfig]:
    """Return the configurations of one run over several seeds, each under its own root.

    Args:
        preset: one of `PRESETS`.
        seeds: how many; 0 to seeds - 1 are run.
        root: folder of all results, with one seed's in `<root>/seed-<n>`; defaults to the preset's.
        captions: as for `resolve`.
        images: as for `resolve`.
        seed: rejected, because the seeds are numbered from 0.
        overrides: as for `resolve`, without `seed`.
        alone: as for `resolve`.

    Raises:
        OvsegError: see `resolve`; or there is less than one seed, a seed is given as well, or the
            storybook MaskFormer of a seed is missing.
    """
    if seeds < 1:
        raise OvsegError(f"--seeds {seeds}: give how many seeds to run, at least 1")
    if seed is not None or "seed" in (overrides or {}):
        raise OvsegError(f"--seeds {seeds} runs seeds 0 to {seeds - 1}: leave the seed out")
    request: dict[str, Any] = {
        "captions": captions,
        "images": images,
        "overrides": {name: each for name, each in (overrides or {}).items() if name != "root"},
        "alone": alone,
    }
    root = (overrides or {}).get("root") if root is None else root
    home = resolve(preset, root=root, **request).root
    configs = [
        resolve(preset, root=home / f"seed-{number}", seed=number, **request)
        for number in range(seeds)
    ]
    for config in configs:
        _check_shipped(config)
    return configs


def tuning_request(
    config: RunConfig,
    arm: str | None,
    split: Path | None,
    *,
    weights: str | None = None,
    thresholds: str | None = None,
) -> tuple[str, dict[str, tuple[float, ...]]]:
    """Check a tuning request, and return the arm to tune and the values to try.

    Raises:
        OvsegError: the arm is unknown; the split does not exist, or is not given although the
            embedded world is not scored; or a value is not a number from 0 to 1.
    """
    texts = {"weights": weights, "thresholds": thresholds}
    fractions = {name: parse_fractions(text, f"--{name}") for name, text in texts.items()}
    arm = arm if arm is not None else next(iter(config.arms))
    if arm not in config.arms:
        raise OvsegError(f"unknown arm {arm!r}; choose one of {', '.join(config.arms)}")
    scenes = config.data.mining_world is not None and config.benchmarks[0].benchmark == "storybook"
    if split is None and not scenes:
        raise OvsegError(
            "give --split FOLDER: labeled training images, as images/, labels/ and classes.txt"
        )
    if split is not None and not split.is_dir():
        raise OvsegError(f"--split {split} is not a folder: give images/, labels/ and classes.txt")
    return arm, {name: values for name, values in fractions.items() if values}


def _check_shipped(config: RunConfig) -> None:
    """Check that the compact MaskFormer of a seed exists, without loading it."""
    names = {config.proposals.maskformer, *(item.maskformer for item in config.scored)}
    exists = (storybook_weights(config.seed) / MASKFORMER_CONFIG).is_file()
    if compact_maskformer(config.seed) in names and not exists:
        raise OvsegError(
            f"the MaskFormer for the storybook's seed {config.seed} is missing: train it with"
            f" `python -m flows.pretrain maskformer --split {config.seed}`, or run fewer seeds"
        )


def _own_images(config: RunConfig, images: Location, root: Path | None) -> RunConfig:
    """Return a preset over a user's images, without anything from the storybook.

    A data set without a name is named after the folder of its images, and its results get their
    own folder next to the storybook's.
    """
    data: dict[str, Any] = {"mining_world": None, "benchmark_world": None}
    update: dict[str, Any] = {
        "benchmarks": tuple(b for b in config.benchmarks if b.benchmark != "storybook")
    }
    if config.data.dataset == "storybook":
        name = re.sub(r"[^a-z0-9]+", "-", images.resolve().name.lower()).strip("-") or "images"
        data["dataset"] = name
        if root is None and config.root == Path("runs/storybook"):
            update["root"] = Path("runs") / name
    config = config.changed("data", **data).model_copy(update=update)
    if config.mining.proposals.label_set != "storybook":
        return config
    return config.changed("mining", proposals=_own_labels(config))


def _own_labels(config: RunConfig) -> ProposalsSettings:
    """Remove the storybook's labeled set and seen classes from the proposals; others stay."""
    storybook_classes = PRESETS["storybook"](config.seed).mining.proposals.label_classes
    classes = config.mining.proposals.label_classes
    if classes == storybook_classes:
        classes = ()
    return config.mining.proposals.model_copy(update={"label_set": "", "label_classes": classes})
