"""The study stage: compares models over seeds, with means, intervals, gains, claims and plots.

    from ovseg.comparison.stage import STUDY
    run_stage(STUDY, config, {"0/original": manifest, "0/both": manifest, ...}, Path("runs/x"))

`ovseg run --seeds 3` runs it at the end, `ovseg study` repeats it over existing results, and `ovseg
ablate` runs it for each table. `ovseg.evaluation.intervals` explains the intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ovseg.comparison.claims import claim_rows, compared_pairs, judged_claims
from ovseg.comparison.findings import ALL, METRICS, Findings
from ovseg.comparison.plots import plot_curves, plot_findings
from ovseg.comparison.study_page import markdown
from ovseg.config.reporting import CURVE, StudyConfig
from ovseg.errors import OvsegError
from ovseg.evaluation.intervals import (
    Counts,
    Floats,
    ImageCounts,
    draw_images,
    draw_seeds,
    improvement,
    mean_over_seeds,
    percentiles,
    read_images,
    resampled_scores,
    student,
    total,
)
from ovseg.evaluation.metrics import all_scores
from ovseg.files.digests import digest_json
from ovseg.files.parquet_files import read_parquet, write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import CLAIMS, rows_to_table
from ovseg.stages.schema import STUDY as STUDY_ROWS
from ovseg.stages.stage import Inputs, Output, Progress, Stage

Row = dict[str, Any]


class StudyStage(Stage[StudyConfig]):
    """A folder with `study.parquet`, `claims.parquet`, `study.md` and the plots.

    Inputs: a finished benchmark for each `<seed>/<arm>`, every arm with every seed (except for
    ablations, whose cells may be incomplete); optional learning curves under `curve/<seed>/<arm>`.
    """

    name = "study"
    suffix = ""

    def plan(self, config: StudyConfig, inputs: Inputs) -> ShardPlan:
        """Plan one shard; the seen classes are in the parents' digests, not in their contents."""
        parents = [[role, manifest.digest] for role, manifest in inputs.items()]
        return ShardPlan.single(digest_json(parents), len(_benchmarks(inputs)))

    def write(
        self, config: StudyConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Compare and judge."""
        by_seed = _by_seed(_benchmarks(inputs), config)
        table = rows_to_table(study_rows(resample(by_seed, config, progress), config), STUDY_ROWS)
        findings = Findings(table, config)
        claims, curves = judged_claims(findings), _curves(inputs)
        target.mkdir(parents=True)
        write_parquet(table, target / "study.parquet")
        write_parquet(
            rows_to_table(claim_rows(claims, findings), CLAIMS), target / "claims.parquet"
        )
        plots = plot_findings(findings, target)
        if curves is not None:
            write_parquet(curves, target / "curves.parquet")
            plots["curves.png"] = "Learning curves"
            plot_curves(curves, config, target / "curves.png")
        images = _images(by_seed)
        text = markdown(findings, claims, images=images, plots=plots)
        (target / "study.md").write_text(text, encoding="utf-8")
        stats = {
            "table": config.table,
            "benchmark": config.benchmark,
            "seeds": list(by_seed),
            "arms": [name for name, _ in config.arms],
            "images": images,
            "curves": curves is not None,
            "verdicts": {one.claim.name: one.verdict.words for one in claims},
        }
        return Output(rows=len(table), stats=stats)

    def summarize(
        self, config: StudyConfig, inputs: Inputs, records: Sequence[Any]
    ) -> dict[str, Any]:
        """Return the stats of the one shard."""
        (record,) = records
        stats: dict[str, Any] = record.stats
        return stats


STUDY = StudyStage()


# --------------------------------------------------------------------------------------
# Inputs


def _benchmarks(inputs: Inputs) -> dict[str, Manifest]:
    return {role: m for role, m in inputs.items() if not role.startswith(f"{CURVE}/")}


def _by_seed(
    benchmarks: Mapping[str, Manifest], config: StudyConfig
) -> dict[str, dict[str, Manifest]]:
    """Return the benchmarks by seed, ascending, and arm, in order.

    Raises:
        OvsegError: if there are none, or an arm of a run is missing a seed.
    """
    arms = [name for name, _ in config.arms]
    seeds = sorted({role.partition("/")[0] for role in benchmarks}, key=int)
    missing = [f"{s}/{arm}" for s in seeds for arm in arms if f"{s}/{arm}" not in benchmarks]
    if config.table and not seeds:
        raise OvsegError("no cell of this ablation was scored: fix the errors of its cells")
    if not config.table and (missing or not seeds):
        raise OvsegError(
            f"no benchmark of {', '.join(missing) or 'any seed'} (seed/arm): run `ovseg run"
            " --seeds N` to its end"
        )
    return {
        seed: {arm: benchmarks[f"{seed}/{arm}"] for arm in arms if f"{seed}/{arm}" in benchmarks}
        for seed in seeds
    }


def _images(by_seed: Mapping[str, Mapping[str, Manifest]]) -> int:
    """Return the number of images each arm was scored on; the fewest if seeds differ."""
    return min(
        int(m.stats["n"] - m.stats["bad"]) for arms in by_seed.values() for m in arms.values()
    )


def _curves(inputs: Inputs) -> pa.Table | None:
    """Read the learning curves of all seeds, with a leading column `seed`; None if absent."""
    tables = []
    for role, manifest in inputs.items():
        if role.startswith(f"{CURVE}/"):
            seed = role.split("/")[1]
            rows = pa.concat_tables([read_parquet(path) for path in manifest.paths()])
            tables.append(rows.add_column(0, "seed", [pa.array([seed] * len(rows), pa.string())]))
    return pa.concat_tables(tables).replace_schema_metadata(None) if tables else None


# --------------------------------------------------------------------------------------
# Draws


@dataclass(frozen=True)
class Resampled:
    """The scores of one arm of one seed.

    Attributes:
        value: each score over all images, as in the benchmark.
        draws: `(B,)` each score under each draw of images.
    """

    value: dict[str, float]
    draws: dict[str, Floats]


def resample(
    by_seed: Mapping[str, Mapping[str, Manifest]], config: StudyConfig, progress: Progress
) -> dict[str, dict[str, Resampled]]:
    """Score every arm of every seed under the draws of that seed's images.

    Args:
        by_seed: finished benchmarks by seed and arm; a seed may not have all arms.
        config: the number of draws.
        progress: called for each benchmark.

    Raises:
        OvsegError: if the arms of a seed were scored on different images.
    """
    drawn: dict[str, Counts] = {}
    resampled: dict[str, dict[str, Resampled]] = {}
    for seed, arms in by_seed.items():
        resampled[seed] = {}
        ids = None
        for arm, manifest in arms.items():
            images = read_images(manifest)
            if ids is not None and not np.array_equal(ids, images.ids):
                raise OvsegError(
                    f"seed {seed}: {arm} was scored on different images than the previous arms, so"
                    " they cannot be paired; run `ovseg benchmark` again"
                )
            ids = images.ids
            # seeds with the same images share the draws
            key = digest_json([manifest.plan.ids_digest, images.ids.tolist()])
            if key not in drawn:
                drawn[key] = draw_images(
                    len(images), resamples=config.resamples, seed=config.seed + len(drawn)
                )
            resampled[seed][arm] = score_draws(images, drawn[key])
            progress(1)
    return resampled


def score_draws(images: ImageCounts, weights: Counts) -> Resampled:
    """Return the scores of an arm over all images and under each draw."""
    value = all_scores(total(images), images.splits)
    draws = resampled_scores(images, weights)
    nowhere = np.full(len(weights), np.nan)
    return Resampled(value, {name: draws.get(name, nowhere) for name in value})


# --------------------------------------------------------------------------------------
# Rows


def study_rows(
    resampled: Mapping[str, Mapping[str, Resampled]], config: StudyConfig
) -> Iterator[Row]:
    """Yield the rows of `ovseg.stages.schema.STUDY`: scores, gains, leads, pairs of claims.

    Args:
        resampled: by seed and arm, the same draws for all arms of a seed; a pair is compared over
            the seeds that have both.
        config: arms, baseline, favorite, claims, draws and level.
    """
    arms = [name for name, _ in config.arms]
    pairs: list[tuple[str, str | None]] = [(arm, None) for arm in arms]
    pairs += [(arm, config.baseline) for arm in arms if config.baseline in arms]
    pairs += [(config.favorite, arm) for arm in arms if config.favorite in arms]
    pairs += compared_pairs(config.claims or ())
    for arm, baseline in dict.fromkeys(pairs):
        if arm == baseline:
            continue
        both = {arm} if baseline is None else {arm, baseline}
        shared = {seed: arms for seed, arms in resampled.items() if both <= set(arms)}
        seed_draws = draw_seeds(max(len(shared), 1), resamples=config.resamples, seed=config.seed)
        for metric in METRICS:
            of_seeds = _of_seeds(shared, arm, baseline, metric)
            for row in _intervals(of_seeds, len(shared), seed_draws, config, baseline):
                yield {
                    "benchmark": config.benchmark,
                    "arm": arm,
                    "baseline": baseline,
                    "metric": metric,
                    **row,
                }


def _of_seeds(
    resampled: Mapping[str, Mapping[str, Resampled]], arm: str, baseline: str | None, metric: str
) -> dict[str, tuple[float, Floats]]:
    """Return a score or a paired difference by seed, with its draws, without undefined ones."""
    found = {}
    for seed, arms in resampled.items():
        chosen = [arms[arm]] + ([arms[baseline]] if baseline is not None else [])
        if all(metric in one.value for one in chosen):
            value, draws = chosen[0].value[metric], chosen[0].draws[metric]
            for other in chosen[1:]:
                value, draws = value - other.value[metric], draws - other.draws[metric]
            found[seed] = value, draws
    return found


def _intervals(
    of_seeds: Mapping[str, tuple[float, Floats]],
    seeds: int,
    seed_draws: Counts,
    config: StudyConfig,
    baseline: str | None,
) -> Iterator[Row]:
    def row(seed: str, kind: str, value: float, draws: Floats) -> Row:
        low, high = percentiles(draws, level=config.level)
        improved = None if baseline is None else improvement(draws)
        bounds = {"value": value, "low": low, "high": high, "improved": improved}
        return {"seed": seed, "kind": kind, **bounds}

    for seed, (value, draws) in of_seeds.items():
        yield row(seed, "images", value, draws)
    if not of_seeds or len(of_seeds) < seeds:
        return  # a score that is missing for a seed has no mean over the seeds
    values = [value for value, _ in of_seeds.values()]
    mean = float(np.mean(values))
    draws = mean_over_seeds(np.stack([draws for _, draws in of_seeds.values()]), seed_draws)
    if baseline is None:
        draws = draws.clip(0, 1)  # a stretched mean may leave the range of a score
    yield row(ALL, "images+seeds" if seeds > 1 else "images", mean, draws)
    if seeds > 1:
        low, high = student(values, level=config.level)
        bounds = {"value": mean, "low": low, "high": high, "improved": None}
        yield {"seed": ALL, "kind": "seeds", **bounds}
