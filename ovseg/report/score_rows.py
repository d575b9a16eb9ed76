"""The data of a report on the models: scores, classes, curves over training, worst mistakes.

Selects over the relations that `mined_rows.open_tables` opens.
"""

from __future__ import annotations

import json

import duckdb

from ovseg.comparison.words import thousands
from ovseg.report.mined_rows import Row, row, rows


def leaderboard(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return every arm's scores on every benchmark, with the intervals over the images."""
    return rows(con, "leaderboard")


def classes(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Return class rows: arm, class_id, class_name, seen, iou, accuracy (of masks), masks."""
    return rows(con, "classes", [benchmark])


def losses(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return the loss of each arm's last phase: arm, step, loss."""
    return rows(con, "losses")


def curves(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Return learning curves, if the run measured any.

    Columns: benchmark, arm, phase, trains, step, total_step, part, accuracy, masks.
    """
    return rows(con, "curves")


def curve_cut(con: duckdb.DuckDBPyConnection, benchmark: str | None) -> str:
    """Describe the images used for a benchmark's learning curves; empty if all are used."""
    found = rows(con, "curve_settings", [benchmark])
    settings = [json.loads(each["config"]) for each in found]
    limits = [int(setting["limit"]) for setting in settings if setting.get("limit") is not None]
    if not limits:
        return ""
    images = row(con, "benchmark_images", [benchmark])["images"]
    if images is None:
        return f"the first {thousands(min(limits))} images"
    cut = f"the first {thousands(min(limits))} of {thousands(images)} images"
    return cut if min(limits) < images else ""


# --------------------------------------------------------------------------------------
# Mistakes


def mask_confusions(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Return which class CLIP names as which other, by masks, for the arms that do so."""
    return rows(con, "mask_confusions", [benchmark])


def pixel_confusions(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Return which class's pixels are labelled as which other: arm, class_name, named, share.

    The share is of all labelled pixels of the benchmark; pixels without a class are left out.
    """
    return rows(con, "pixel_confusions", [benchmark])


def worst_masks(con: duckdb.DuckDBPyConnection, benchmark: str, arm: str, limit: int) -> list[Row]:
    """Return the largest ground-truth masks that an arm misclassifies, at most two per mistake.

    Columns: image_id, gt_class, class_name, seen, named, gt_rank, area_fraction, and the name by
    the original CLIP (`before`, null if it was not scored).
    """
    return rows(con, "worst_masks", [benchmark, arm, limit])


def image_scores(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Return the mIoU of each image and arm over the classes in truth or prediction, worst first.

    Columns: arm, image_id, miou, classes.
    """
    return rows(con, "image_scores", [benchmark])
