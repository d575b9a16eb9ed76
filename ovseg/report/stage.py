"""The report of a run: one HTML file with its numbers, pairs, segmentations and mistakes.

    report = run_stage(REPORT, config, report_inputs(root, ...), root)
    report_file(report)  # .../report.html, to be opened from disk

Everything is read through manifests, so a second report of an equal run has the same bytes. If a
run has no benchmark, no ground truth of its pairs, or no learning curves, those sections say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ovseg.catalog.catalog import open_catalog
from ovseg.comparison.words import thousands
from ovseg.config.reporting import ReportConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.files.digests import digest_json, file_sha256
from ovseg.files.sql_files import Kind, sql_files
from ovseg.models.clip.load import clip_digest
from ovseg.models.proposals.proposers import proposer_digest
from ovseg.report import mined_rows as data
from ovseg.report import page, sections
from ovseg.report import score_rows as results
from ovseg.report.plots.canvas import percent, points
from ovseg.report.plots.scores import Arms
from ovseg.report.segmentations import draw_mistakes, segment_images
from ovseg.stages.manifest import Manifest, ShardPlan
from ovseg.stages.stage import Inputs, Output, Progress, Stage

FILE = "report.html"
SQL: tuple[Kind, ...] = ("views", "report")
"""The modules it reads its data with."""
ORIGINAL = "Original CLIP"
"""Heading of the original CLIP's maps."""


def report_inputs(
    root: Path,
    mined: Mapping[str, Manifest],
    checkpoints: Mapping[str, Manifest],
    scored: Mapping[str, Manifest],
    truth: Manifest | None,
) -> dict[str, Manifest]:
    """Return the parents of a report, by the roles of `mined_rows.open_tables`.

    Benchmark runs and learning curves are looked up in the root's catalog; a curve is used if it
    ends at this run's checkpoint and its benchmark was scored.

    Args:
        root: folder of all results, with a catalog.
        mined: manifests of the mining stages by role.
        checkpoints: of each trained arm.
        scored: scores by `<benchmark>/<arm>`.
        truth: the judged pairs, if there is ground truth.
    """
    inputs = {role: mined[role] for role in ("images", "nouns", "proposals", "table")}
    if truth is not None:
        inputs["truth"] = truth
    inputs |= {f"checkpoint/{arm}": manifest for arm, manifest in checkpoints.items()}
    with open_catalog(root) as con:
        found = data.rows(con, "measured")
    runs = {row["digest"]: row["folder"] for row in found if row["stage"] == "benchmarks"}
    for key, scores in scored.items():
        if (folder := runs.get(scores.stats["benchmark_digest"])) is not None:
            inputs[f"benchmark/{key}"] = Manifest.read(Path(folder))
            inputs[f"scores/{key}"] = scores
    benchmarks = {key.partition("/")[0] for key in scored}
    for row in found:
        arm = row["arm"]
        if row["stage"] != "curves" or arm not in checkpoints:
            continue
        curve = Manifest.read(Path(row["folder"]))
        benchmark = curve.stats["benchmark"]
        current = curve.stats["checkpoint"] == checkpoints[arm].content_digest
        if current and benchmark in benchmarks:
            inputs[f"curve/{benchmark}/{arm}"] = curve
    return inputs


def report_file(report: Manifest) -> Path:
    """Return the HTML file of a finished report."""
    return report.payload() / FILE


class ReportStage(Stage[ReportConfig]):
    """Writes `report.html`; one shard, a folder."""

    name = "report"
    suffix = ""

    def plan(self, config: ReportConfig, inputs: Inputs) -> ShardPlan:
        """Plan one shard; the page prints its parents' digests, so its own digest covers them."""
        parents = [[role, manifest.digest] for role, manifest in inputs.items()]
        return ShardPlan.single(digest_json(parents), 3)

    def weights(self, config: ReportConfig, inputs: Inputs) -> dict[str, str]:
        """Return digests of the template, the SQL, and the models and images of the label maps."""
        found = {
            "page": file_sha256(page.FOLDER),
            "sql": digest_json([each.text for kind in SQL for each in sql_files(kind)]),
        }
        setting = segmented_benchmark(config, inputs)
        if setting is None:
            return found
        return {
            **found,
            "clip": clip_digest(setting.clip),
            "maskformer": proposer_digest(
                setting.proposals, setting.maskformer, segments=setting.segments
            ),
            "benchmark": BENCHMARK.plan(setting, {}).ids_digest,
        }

    def write(
        self, config: ReportConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Read everything, draw everything, write `report.html`."""
        with data.open_tables(inputs) as con:
            html = page.render(build(con, config, inputs, progress))
        target.mkdir(parents=True)
        (target / FILE).write_text(html, encoding="utf-8")
        return Output(rows=1, stats={"bytes": len(html.encode())})


REPORT = ReportStage()


def segmented_benchmark(config: ReportConfig, inputs: Inputs) -> BenchmarkConfig | None:
    """Return the benchmark whose images are shown; None if none was scored and has a folder."""
    setting = config.benchmark
    if setting is None or setting.root is None:
        return None
    scored = any(role.startswith(f"scores/{setting.benchmark}/") for role in inputs)
    return setting if scored else None


def build(
    con: duckdb.DuckDBPyConnection, config: ReportConfig, inputs: Inputs, progress: Progress
) -> page.Page:
    """Build the page of a run."""
    arms = Arms(dict(config.arms))
    board = sections.data_of(arms, results.leaderboard(con))
    trained = [arm for arm in arms.labels if f"checkpoint/{arm}" in inputs]
    name = config.benchmark.benchmark if config.benchmark else None
    scored = [row["arm"] for row in board if row["benchmark"] == name]
    benchmark = name if scored else None
    adapted = next((arm for arm in reversed(trained) if arm in scored), None)
    shown = adapted or next((arm for arm in arms.labels if arm in scored), None)
    counts = data.counts(con)
    nouns, pictures = sections.gallery(con, config)
    progress(1)
    models = _models(inputs, arms, adapted)
    pictured = _pictures(con, config, inputs, arms, models, shown)
    progress(1)
    parts = [
        sections.scores_section(board, arms, benchmark),
        sections.funnel_section(con, counts),
        sections.pairs_section(nouns, counts),
        _segmentations(pictured, [heading for heading, _ in models], benchmark),
        sections.distributions_section(con, counts),
        sections.training_section(con, arms, benchmark),
        sections.classes_section(con, arms, benchmark, adapted),
        sections.mistakes_section(con, arms, benchmark, shown, scored),
        page.Section(
            name="origin",
            short="Origin",
            title="What this is made from",
            intro="Each stage is named by a digest of its configuration, its parents' content,"
            " its models and its code: equal digests mean equal results.",
        ),
    ]
    progress(1)
    return page.Page(
        title=f"Preset {config.preset}"
        + ("" if config.dataset == config.preset else f" on {config.dataset}"),
        lead=f"What the preset expects: {config.expect}." if config.expect else "",
        facts=_facts(config, inputs, board, arms),
        miniature=config.miniature,
        tiles=_tiles(counts, board, arms, benchmark, adapted),
        sections=parts,
        boards=sections.boards(board, arms, miniature=config.miniature),
        flow=sections.flow(counts),
        nouns=nouns,
        judged=bool(counts["judged"]),
        pictures=pictures,
        adapted=arms.labels[shown] if shown else "",
        origin=sections.origin(inputs),
        **pictured,
    )


def _models(inputs: Inputs, arms: Arms, adapted: str | None) -> list[tuple[str, Manifest | None]]:
    """Return heading and checkpoint (None for the original CLIP) of each shown model."""
    models: list[tuple[str, Manifest | None]] = []
    if "original" in arms.labels:
        models.append((ORIGINAL, None))
    if adapted is not None:
        heading = f"Adapted: {arms.labels[adapted]}"
        models.append((heading, inputs[f"checkpoint/{adapted}"]))
    return models


def _pictures(
    con: duckdb.DuckDBPyConnection,
    config: ReportConfig,
    inputs: Inputs,
    arms: Arms,
    models: Sequence[tuple[str, Manifest | None]],
    shown: str | None,
) -> dict[str, Any]:
    """Return segmentations, mistakes and worst images; empty if no benchmark can be drawn."""
    setting = segmented_benchmark(config, inputs)
    scores = (
        [r for r in results.image_scores(con, setting.benchmark) if r["arm"] == shown]
        if (setting is not None)
        else []
    )
    if setting is None or shown is None or not scores:
        return {}
    by_id = {row["image_id"]: row for row in scores}
    ids = sorted(by_id)
    places = np.linspace(0, len(ids) - 1, min(len(ids), config.segmented)).round()
    spread = [ids[int(place)] for place in places]
    worst = [row["image_id"] for row in scores if row["image_id"] not in spread][: config.worst]
    titles = {
        image_id: f"Image {image_id}: mIoU {percent(by_id[image_id]['miou'])} % over"
        f" {by_id[image_id]['classes']} classes, {arms.labels[shown]}"
        for image_id in (*spread, *worst)
    }
    drawn = segment_images(setting, models, titles, side=config.picture)
    masks = results.worst_masks(con, setting.benchmark, shown, config.mistakes)
    return {
        "segmentations": drawn[: len(spread)],
        "worst": drawn[len(spread) :],
        "mistakes": draw_mistakes(setting, masks, side=config.side),
    }


def _segmentations(
    pictured: Mapping[str, Sequence[object]], headings: Sequence[str], benchmark: str | None
) -> page.Section:
    why = (
        sections.NO_BENCHMARK
        if benchmark is None
        else "The benchmark's images no longer exist: nothing can be segmented."
    )
    return page.Section(
        name="segmentations",
        short="Segmentations",
        title="Segmentations side by side",
        intro=f"Evenly spaced benchmark images{_under(headings)}. Numbers on the maps refer to the"
        " legends; ✗ marks a class that is not in the image's ground truth. Shares are of the"
        " image.",
        empty="" if pictured.get("segmentations") else why,
    )


def _under(headings: Sequence[str]) -> str:
    """Describe the models of these headings."""
    adapted = [heading.partition(": ")[2] for heading in headings if heading != ORIGINAL]
    if ORIGINAL not in headings:
        return f" under the adapted CLIP ({adapted[0]})" if adapted else ""
    return " under the original CLIP" + (f" and the adapted one ({adapted[0]})" if adapted else "")


def _facts(
    config: ReportConfig, inputs: Inputs, board: Sequence[data.Row], arms: Arms
) -> list[tuple[str, str]]:
    """Return the facts of the run: the data, the models by name, and the benchmarks."""
    names = dict.fromkeys(row["benchmark"] for row in board)
    return [
        ("mined data", config.dataset),
        ("nouns by", str(inputs["nouns"].config.get("parser", "unknown"))),
        ("masks by MaskFormer", config.maskformer),
        ("chosen by CLIP", config.clip),
        ("models", ", ".join(arms.labels.values()) or "none"),
        ("scored on", ", ".join(names) or "no benchmark"),
    ]


def _tiles(
    counts: data.Row,
    board: Sequence[data.Row],
    arms: Arms,
    benchmark: str | None,
    adapted: str | None,
) -> list[tuple[str, str, str]]:
    """Return the main numbers: value, name, note."""
    tiles = [
        (thousands(counts["images"]), "images", f"{thousands(counts['captions'])} captions"),
        (thousands(counts["kept"]), "kept pairs", f"of {thousands(counts['pairs'])}"),
        (thousands(counts["kept_nouns"]), "nouns with pairs", ""),
    ]
    if counts["judged"]:
        share = counts["right_pairs"] / counts["judged"]
        of = f"of {thousands(counts['judged'])} judged"
        tiles.append((f"{percent(share)} %", "pairs that are right", of))
    own = {row["arm"]: row for row in board if row["benchmark"] == benchmark}
    if adapted is not None:
        for metric, name in (
            ("mask_acc_seen", "GT masks, seen"),
            ("mask_acc_unseen", "GT masks, unseen"),
            ("miou_union", "mIoU"),
        ):
            value, base = own[adapted][metric], own.get("original", {}).get(metric)
            if value is None:
                continue
            change = f"{points(value - base)} points" if base is not None else ""
            tiles.append((f"{percent(value)} %", f"{name}, {arms.labels[adapted]}", change))
    return tiles
