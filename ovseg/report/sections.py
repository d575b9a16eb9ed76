"""The sections of a report: plots, notes, or one line that says why they are empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from ovseg.comparison.words import interval, thousands
from ovseg.config.reporting import ReportConfig
from ovseg.report import mined_rows as data
from ovseg.report import score_rows as results
from ovseg.report.cards import Card, Gallery
from ovseg.report.page import Noun, Section
from ovseg.report.plots.canvas import Plot, Table, percent, points
from ovseg.report.plots.classes import confusion_plot, gains_plot
from ovseg.report.plots.mined import distribution_plot, funnel_plot, long_tail_plot
from ovseg.report.plots.scores import Arms, curve_plot, loss_plot, scores_plot
from ovseg.stages.manifest import Manifest

NO_BENCHMARK = "No benchmark was scored in this run: there is nothing to show here."

# --------------------------------------------------------------------------------------
# What was mined


def funnel_section(con: duckdb.DuckDBPyConnection, counts: data.Row) -> Section:
    """Make the section from captions to kept pairs."""
    section = Section(
        name="funnel",
        short="Funnel",
        title="From captions to pairs",
        intro="Every image, caption, noun, proposal and pair that is dropped keeps a row with its"
        " reason; the bars are those rows, counted.",
    )
    steps = data.funnel(con)
    plots = [funnel_plot(steps)] if steps else []
    ranks = data.noun_ranks(con)
    if ranks:
        plots.append(long_tail_plot(ranks))
    if not counts["pairs"]:
        section = replace(section, notes=("No pair was mined.",))
    return replace(section, plots=tuple(plots), empty="" if steps else "No image was read.")


def flow(counts: data.Row) -> list[tuple[str, str]]:
    """Return the chain of counts from images to correct pairs."""
    steps = [
        (thousands(counts["images"]), "images"),
        (thousands(counts["captions"]), "captions"),
        (thousands(counts["mentions"]), "mentions of nouns"),
        (thousands(counts["nouns"]), "distinct nouns kept"),
        (thousands(counts["pairs"]), "pairs"),
        (thousands(counts["kept"]), "kept pairs"),
    ]
    if counts["judged"]:
        steps.append((thousands(counts["right_pairs"]), "of them right"))
    return steps


def gallery(
    con: duckdb.DuckDBPyConnection, config: ReportConfig
) -> tuple[list[Noun], list[tuple[str, int, int, str]]]:
    """Return the nouns with the most kept pairs, a few pairs of each, and their images."""
    found = data.nouns(con)[: config.nouns]
    images = Gallery(config.image_root, config.side)
    cards: dict[str, list[Card]] = {row["noun"]: [] for row in found}
    for pair in data.sample_pairs(con, list(cards), config.pairs_per_noun):
        cards[pair["noun"]].append(images.card(pair))
    nouns = []
    for row in found:
        shown = len(cards[row["noun"]])
        status = f"{shown} of {thousands(row['pairs'])} pairs"
        if row["judged"]:
            status += f", {percent(row['right_pairs'] / row['judged'], places=0)} % of all right"
        nouns.append(Noun(row["noun"], thousands(row["pairs"]), status, tuple(cards[row["noun"]])))
    return nouns, images.pictures


def pairs_section(nouns: Sequence[Noun], counts: data.Row) -> Section:
    """Make the section of pairs by noun."""
    judged = (
        ""
        if not counts["judged"]
        else (
            " A pair is right if its noun names the class of most of the mask's pixels in the"
            " ground truth (✓, solid outline), else wrong (✗, dashed)."
        )
    )
    return Section(
        name="pairs",
        short="Pairs",
        title="Pairs by noun",
        intro="The mask each noun got, everything else dimmed, with the caption that names it."
        f" Images are ordered by a hash of their ID, not hand-picked.{judged}",
        empty="" if nouns else "No pair was kept: there is no mask to show.",
    )


def distributions_section(con: duckdb.DuckDBPyConnection, counts: data.Row) -> Section:
    """Make the section of scores, margins and areas: kept against dropped, right against wrong."""
    values = data.pair_values(con)
    notes, plots = [], []
    for solid, hatched in (("right", "wrong"), ("kept", "dropped")):
        drawn = [
            distribution_plot(measure, groups, solid, hatched) for measure, groups in values.items()
        ]
        plots += [plot for plot in drawn if plot is not None]
    if not counts["judged"]:
        notes.append("Right and wrong are not compared: this run has no ground truth for pairs.")
    if counts["kept"] == counts["pairs"]:
        notes.append("Kept and dropped are not compared: the gates of this run dropped no pair.")
    elif not any(len(groups["dropped"]) for groups in values.values()):
        notes.append("Kept and dropped are not compared: the dropped pairs have no proposal.")
    return Section(
        name="distributions",
        short="Scores of pairs",
        title="What tells good pairs from bad",
        intro="Each histogram shows one measure in two groups of pairs, as shares of each group."
        " If the groups differ, a gate on the measure helps.",
        plots=tuple(plots),
        notes=tuple(notes),
        empty="" if plots else "There are no two groups of pairs to compare.",
    )


# --------------------------------------------------------------------------------------
# What was learned

METRICS = {
    "mask_acc_seen": "seen",
    "mask_acc_unseen": "unseen",
    "miou_union_seen": "seen",
    "miou_union_unseen": "unseen",
    "miou_union": "all",
}
"""Columns of the table of scores: a metric of the leaderboard and its heading."""
GROUPS = (("GT masks", 2), ("mIoU", 3))
"""Titles above the headings, each with the number of headings it spans."""


def boards(found: Sequence[data.Row], arms: Arms, *, miniature: bool) -> list[dict[str, Any]]:
    """Return the tables of scores, one per benchmark, in the order of the arms."""
    tables = []
    for name in dict.fromkeys(row["benchmark"] for row in found):
        own = {row["arm"]: row for row in found if row["benchmark"] == name}
        order = arms.in_order(list(own.values()))
        base = own.get("original")
        best = {
            metric: max(
                (own[arm][metric] for arm in order if own[arm][metric] is not None), default=None
            )
            for metric in METRICS
        }
        images = f"{thousands(own[order[0]]['images'])} images" if order else "no image"
        note = "; a miniature, not comparable with photographs" if miniature else ""
        tables.append(
            {
                "name": name,
                "caption": f"{name}, in % ({images}{note})",
                "groups": GROUPS,
                "columns": list(METRICS.values()),
                "rows": [
                    {
                        "label": arms.labels[arm],
                        "place": arms.places[arm],
                        "cells": [
                            _cell(own[arm], metric, None if arm == "original" else base, best)
                            for metric in METRICS
                        ],
                    }
                    for arm in order
                ],
            }
        )
    return tables


def _cell(
    row: data.Row, metric: str, base: data.Row | None, best: Mapping[str, float | None]
) -> dict[str, Any]:
    value = row[metric]
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    change = ""
    if base is not None and value is not None and base[metric] is not None:
        change = points(value - base[metric])
    return {
        "value": percent(value),
        "interval": interval(low, high) if low is not None else "",
        "change": change,
        "best": value is not None and value == best[metric],
    }


def scores_section(found: Sequence[data.Row], arms: Arms, benchmark: str | None) -> Section:
    """Make the section of the compared models."""
    own = [row for row in found if row["benchmark"] == benchmark]
    plots = [scores_plot(own, arms, metric=metric) for metric in ("mask_acc", "miou_union")]
    return Section(
        name="scores",
        short="Scores",
        title="The models compared",
        intro="GT masks: the share of ground-truth masks that CLIP names correctly. mIoU: over the"
        " classes in ground truth or prediction. Seen classes had masks in training; unseen ones"
        " occur only in captions. Below each score: its 95 % bootstrap interval over the images,"
        " and its change from the original CLIP in points.",
        plots=tuple(plot for plot in plots if plot is not None),
        empty="" if found else NO_BENCHMARK,
    )


def training_section(con: duckdb.DuckDBPyConnection, arms: Arms, benchmark: str | None) -> Section:
    """Make the section of the loss and the learning curves."""
    log = data_of(arms, results.losses(con))
    curves = [row for row in data_of(arms, results.curves(con)) if row["benchmark"] == benchmark]
    plots, notes = [], []
    if any(row["part"] != "all" and row["accuracy"] is not None for row in curves):
        plots.append(curve_plot(curves, arms, cut=results.curve_cut(con, benchmark)))
    else:
        notes.append(
            "No learning curve: this run kept no snapshots (setting arms.snapshots), or scored"
            " no benchmark with seen and unseen classes."
        )
    if log:
        plots.append(loss_plot(log, arms))
    return Section(
        name="training",
        short="Training",
        title="Over training",
        intro="The loss, and the accuracy on ground-truth masks, step by step.",
        plots=tuple(plots),
        notes=tuple(notes),
        empty="" if plots else "No model was trained in this run.",
    )


def data_of(arms: Arms, rows: Sequence[data.Row]) -> list[data.Row]:
    """Return the rows of the arms that the report compares."""
    return [row for row in rows if row["arm"] in arms.labels]


def classes_section(
    con: duckdb.DuckDBPyConnection, arms: Arms, benchmark: str | None, adapted: str | None
) -> Section:
    """Make the section of gains and losses by class."""
    plots: list[Plot] = []
    why, marks = NO_BENCHMARK, ""
    if benchmark is not None and adapted is not None:
        classes = data_of(arms, results.classes(con, benchmark))
        drawn = [gains_plot(classes, arms, adapted, metric=m) for m in ("iou", "accuracy")]
        plots = [plot for plot in drawn if plot is not None]
        if any(row["seen"] is not None for row in classes):
            marks = " Filled markers are seen classes, hollow ones unseen."
        why = "No class has a score under both the original CLIP and the adapted one."
    elif benchmark is not None:
        why = "No model was trained in this run: there is nothing to compare with the original."
    label = arms.labels[adapted] if adapted else "the adapted CLIP"
    return Section(
        name="classes",
        short="Classes",
        title="Gains and losses by class",
        intro=f"Each class under “{label}” minus the same class under the original"
        f" CLIP.{marks} A class with few masks may change by chance.",
        plots=tuple(plots),
        empty="" if plots else why,
    )


def mistakes_section(
    con: duckdb.DuckDBPyConnection,
    arms: Arms,
    benchmark: str | None,
    shown: str | None,
    scored: Sequence[str],
) -> Section:
    """Make the section of the worst mistakes."""
    plots: list[Plot] = []
    if benchmark is not None and shown is not None:
        of_masks = data_of(arms, results.mask_confusions(con, benchmark))
        of_pixels = data_of(arms, results.pixel_confusions(con, benchmark))
        drawn = (
            confusion_plot(of_masks, arms, shown, scored=scored, by="masks"),
            confusion_plot(of_pixels, arms, shown, scored=scored, by="share"),
        )
        plots = [plot for plot in drawn if plot is not None]
    label = arms.labels[shown] if shown else "the adapted CLIP"
    return Section(
        name="mistakes",
        short="Mistakes",
        title="The worst mistakes",
        intro=f"What the model “{label}” names wrongly: most often, over the largest area, and the"
        " images it segments worst.",
        plots=tuple(plots),
        empty="" if plots else NO_BENCHMARK if benchmark is None else "Nothing is named wrongly.",
    )


def origin(inputs: Mapping[str, Manifest]) -> Table:
    """Return the stages that a report was made from, with their digests."""
    return Table(
        ("role", "stage", "digest", "rows", "content"),
        tuple(
            (
                role,
                manifest.stage,
                manifest.digest,
                thousands(manifest.rows),
                manifest.content_digest[:16],
            )
            for role, manifest in sorted(inputs.items())
        ),
    )
