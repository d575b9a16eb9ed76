"""The cells of an ablation compared on a benchmark: scores, gains over a reference, claims, a plot.

    from ovseg.ablations.comparison import ABLATION
    run_stage(ABLATION, config, {"0/original": manifest, "0/finetuned": manifest}, Path("runs/x"))

`ovseg ablate` runs it at the end of each table. It is the study over seeds
(`ovseg.comparison.stage`) of models of which some were run with fewer seeds than others: a pair is
compared over the seeds that both have.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ovseg.ablations.plots import plot_ablation
from ovseg.ablations.report import section
from ovseg.comparison.claims import Verdict, claim_rows, compared_pairs, judge
from ovseg.comparison.findings import Findings
from ovseg.comparison.stage import compared_rows, resample
from ovseg.config.reporting import AblationConfig
from ovseg.errors import OvsegError
from ovseg.files.digests import digest_json
from ovseg.files.publish import write_parquet
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.schema import CLAIMS, STUDY, rows_to_table
from ovseg.stages.stage import Inputs, Output, Progress, Stage


class AblationStage(Stage[AblationConfig]):
    """A folder with `ablation.parquet`, `claims.parquet`, `ablation.md` and `ablation.png`.

    Inputs: a finished benchmark for each `<seed>/<cell>`; a cell may lack some seeds.
    """

    name = "ablations"
    suffix = ""

    def plan(self, config: AblationConfig, inputs: Inputs) -> ShardPlan:
        """One shard; which classes are seen is in the parents' digests, not in their contents."""
        parents = [[role, manifest.digest] for role, manifest in inputs.items()]
        return ShardPlan.single(digest_json(parents), len(inputs))

    def write(
        self,
        config: AblationConfig,
        inputs: Inputs,
        target: Path,
        *,
        shard: int,
        progress: Progress,
    ) -> Output:
        """Compare and judge."""
        cells = [name for name, _ in config.arms]
        by_seed = _by_seed(inputs, cells)
        pairs: list[tuple[str, str | None]] = [(cell, None) for cell in cells]
        pairs += [(cell, config.baseline) for cell in cells if config.baseline in cells]
        pairs += compared_pairs(config.claims)
        resampled = resample(by_seed, config, progress)
        table = rows_to_table(compared_rows(resampled, pairs, config), STUDY)
        findings = Findings(table, config)
        verdicts = [judge(claim, findings) for claim in config.claims]
        claims = rows_to_table(claim_rows(verdicts, findings, config.table), CLAIMS)
        images = max(int(m.stats["n"] - m.stats["bad"]) for m in inputs.values())
        target.mkdir(parents=True)
        write_parquet(table, target / "ablation.parquet")
        write_parquet(claims, target / "claims.parquet")
        plot_ablation(findings, target / "ablation.png")
        lines = [f"# {config.table} on {config.benchmark}", "", f"{images} images."]
        text = "\n".join([*lines, *section(findings, verdicts, plot="ablation.png"), ""])
        (target / "ablation.md").write_text(text, encoding="utf-8")
        stats = {
            "ablation": config.table,
            "benchmark": config.benchmark,
            "cells": cells,
            "seeds": list(by_seed),
            "images": images,
            "verdicts": {one.claim.name: one.answer.words for one in verdicts},
        }
        return Output(rows=len(table), stats=stats)

    def summarise(
        self, config: AblationConfig, inputs: Inputs, records: Sequence[Any]
    ) -> dict[str, Any]:
        """What the one shard says."""
        (record,) = records
        stats: dict[str, Any] = record.stats
        return stats


ABLATION = AblationStage()


def _by_seed(inputs: Inputs, cells: Sequence[str]) -> dict[str, dict[str, Manifest]]:
    """The benchmarks by seed, ascending, and cell, in order.

    Raises:
        OvsegError: if there are none.
    """
    seeds = sorted({role.partition("/")[0] for role in inputs}, key=int)
    if not seeds:
        raise OvsegError("no cell of this ablation was scored: mend what its cells failed of")
    return {
        seed: {cell: inputs[f"{seed}/{cell}"] for cell in cells if f"{seed}/{cell}" in inputs}
        for seed in seeds
    }


def read_ablation(ablation: Manifest) -> tuple[Findings, list[Verdict]]:
    """The findings of a finished ablation, and its claims judged by them."""
    config = AblationConfig(**ablation.config)
    findings = Findings(pq.read_table(ablation.payload() / "ablation.parquet"), config)
    return findings, [judge(claim, findings) for claim in config.claims]
