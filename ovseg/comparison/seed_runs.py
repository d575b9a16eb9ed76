"""The runs of several seeds under one root, and their study without a flow.

    ovseg study --root runs/storybook --out docs/miniature

Each seed is a complete run in `<root>/seed-<n>`; its catalog lists the current results.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovseg.catalog.catalog import current
from ovseg.config.presets import ARMS
from ovseg.config.reporting import CURVE, StudyConfig
from ovseg.errors import OvsegError
from ovseg.files.access import check_replaceable, list_files
from ovseg.files.publish import discard, publish, temporary_name
from ovseg.stages.manifest import Manifest
from ovseg.stages.run import run_stage

MADE_BY = "ovseg study"
"""Name of the command in the listing of a copied study."""


def seed_roots(root: Path) -> dict[int, Path]:
    """Return the folders of the seeds under a root, by seed."""
    found = {path: re.fullmatch(r"seed-(\d+)", path.name) for path in root.glob("seed-*")}
    return {
        int(match[1]): path
        for path, match in sorted(found.items(), key=lambda item: item[0].name)
        if match
    }


def study_inputs(
    roots: Mapping[int, Path], benchmark: str, arms: Sequence[str] | None = None
) -> dict[str, Manifest]:
    """Return the parents of a study: the benchmark runs and any learning curves of all seeds.

    Args:
        roots: folder of each seed's run.
        benchmark: name of the benchmark.
        arms: the compared models; defaults to all scored models of the first seed.

    Raises:
        OvsegError: if a seed has no scores of an arm.
    """
    inputs: dict[str, Manifest] = {}
    curves: dict[str, Manifest] = {}
    system = _common_system(roots, benchmark)
    for seed, root in sorted(roots.items()):
        found = _of_benchmark(root, "scores", benchmark, system)
        runs = {item.manifest.digest: item.manifest for item in current(root, "benchmarks")}
        arms = list(found) if arms is None else arms
        for arm in arms:
            run = runs.get(found[arm].stats["benchmark_digest"]) if arm in found else None
            if run is None:
                raise OvsegError(
                    f"{root} holds no scores of {arm} on {benchmark}: run"
                    f" `ovseg run --seeds {max(roots) + 1}` again; it resumes where it stopped"
                )
            inputs[f"{seed}/{arm}"] = run
        traced = _of_benchmark(root, "curves", benchmark, "")  # curves have no system
        trained = {
            item.labels["arm"]: item.manifest.content_digest
            for item in current(root, "checkpoints")
        }
        for arm in arms:
            # there may still be a curve of an older checkpoint
            if arm in traced and traced[arm].stats["checkpoint"] == trained.get(arm):
                curves[f"{CURVE}/{seed}/{arm}"] = traced[arm]
    return {**inputs, **curves}


def _common_system(roots: Mapping[int, Path], benchmark: str) -> str:
    """Return the system to compare: of those every seed scored `ovseg`, else the first by name."""
    of_seeds = [
        {
            item.labels.get("system", "")
            for item in current(root, "scores")
            if item.labels["benchmark"] == benchmark
        }
        for root in roots.values()
    ]
    common = set.intersection(*of_seeds) if of_seeds else set()
    return "ovseg" if "ovseg" in common else min(common, default="ovseg")


def _of_benchmark(root: Path, stage: str, benchmark: str, system: str) -> dict[str, Manifest]:
    """Return a stage's current results of one system on one benchmark, by arm in display order."""
    found = {
        item.labels["arm"]: item.manifest
        for item in current(root, stage)
        if item.labels["benchmark"] == benchmark and item.labels.get("system", "") == system
    }
    known = [arm for arm in ARMS if arm in found]
    return {arm: found[arm] for arm in [*known, *sorted(set(found) - set(known))]}


def study_config(benchmark: str, inputs: Mapping[str, Manifest]) -> StudyConfig:
    """Configure the comparison of a study's inputs."""
    arms = dict.fromkeys(role.split("/")[1] for role in inputs if not role.startswith(f"{CURVE}/"))
    return StudyConfig(benchmark=benchmark, arms=tuple((arm, ARMS.get(arm, arm)) for arm in arms))


def study_command(root: Path, *, seeds: int | None, out: Path | None) -> None:
    """Compare the seeds under a root, print the findings, copy them.

    Args:
        root: folder of the results of `ovseg run --seeds`.
        seeds: only seeds 0 to seeds - 1; defaults to all.
        out: folder to copy the table and plots to; that of an earlier call is replaced.

    Raises:
        OvsegError: if there are no runs of seeds, a seed is incomplete, or `out` holds anything but
            the output of an earlier call.
    """
    roots = seed_roots(root)
    if seeds is not None:
        roots = {seed: root / f"seed-{seed}" for seed in range(seeds)}
    if not roots or not all(path.is_dir() for path in roots.values()):
        raise OvsegError(
            f"{root} holds no runs of these seeds: `ovseg run --seeds {seeds or 3}` makes them"
        )
    from ovseg.comparison.stage import STUDY
    from ovseg.comparison.study_page import show_study

    first = roots[min(roots)]
    names = sorted({item.labels["benchmark"] for item in current(first, "scores")})
    if not names:
        raise OvsegError(f"{first} holds no scores: `ovseg run --seeds` benchmarks each seed")
    targets: dict[str, Path] = {}
    if out is not None:
        targets = {name: out if len(names) == 1 else out / name for name in names}
    for folder in targets.values():
        check_replaceable(folder, MADE_BY)
    for name in names:
        inputs = study_inputs(roots, name)
        study = run_stage(STUDY, study_config(name, inputs), inputs, root)
        show_study(study)
        if name in targets:
            target = targets[name]
            temporary = temporary_name(target)
            try:
                shutil.copytree(study.payload(), temporary)
                list_files(temporary, MADE_BY)
                publish(temporary, target)
            except OSError as error:
                reason = error.strerror or error
                raise OvsegError(f"--out {target} cannot be written: {reason}") from error
            finally:
                discard(temporary)
