"""What a report says of the models: scores, classes, curves over training, the worst mistakes.

Selects over the relations that `mined_rows.open_tables` opens.
"""

from __future__ import annotations

import json

import duckdb

from ovseg.comparison.words import thousands
from ovseg.report.mined_rows import Row, row, rows


def leaderboard(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Every arm's scores on every benchmark, with the intervals over the images."""
    return rows(con, "leaderboard")


def classes(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Each class of each arm: arm, class_id, class_name, seen, iou, accuracy (of masks), masks."""
    return rows(con, "classes", [benchmark])


def losses(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """The loss of each arm's last phase: arm, step, loss."""
    return rows(con, "losses")


def curves(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Learning curves: benchmark, arm, phase, trains, step, total_step, part, accuracy, masks.

    No row where the run measured none.
    """
    return rows(con, "curves")


def curve_cut(con: duckdb.DuckDBPyConnection, benchmark: str | None) -> str:
    """The images a benchmark's learning curves look at in words; empty where they are all."""
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
    """Which class CLIP names as which other, by masks, of the arms that make the mistake."""
    return rows(con, "mask_confusions", [benchmark])


def pixel_confusions(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Which class's pixels a segmentation gives to which other: arm, class_name, named, share.

    The share is of all labelled pixels of the benchmark; pixels without a class are left out.
    """
    return rows(con, "pixel_confusions", [benchmark])


def worst_masks(con: duckdb.DuckDBPyConnection, benchmark: str, arm: str, limit: int) -> list[Row]:
    """The largest ground-truth masks an arm names wrongly, at most two of one mistake.

    Columns: image_id, gt_class, class_name, seen, named, gt_rank, area_fraction, and what the
    original CLIP named it (`before`, null where it is not among the runs).
    """
    return rows(con, "worst_masks", [benchmark, arm, limit])


def image_scores(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """MIoU of each image under each arm, over the classes in its truth or prediction, worst first.

    Columns: arm, image_id, miou, classes.
    """
    return rows(con, "image_scores", [benchmark])
