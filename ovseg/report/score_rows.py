"""What a report says of the models: scores, classes, curves over training, the worst mistakes.

Selects over the relations that `report_data.open_tables` opens.
"""

from __future__ import annotations

import json

import duckdb

from ovseg.report.mined_rows import Row, row, rows
from ovseg.report.plots.canvas import thousands


def leaderboard(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Every arm's scores on every benchmark, with how many masks they were counted over."""
    return rows(
        con,
        """
        select
            board.*,
            masks.seen_masks,
            masks.unseen_masks
        from leaderboard as board
        left join (
            select
                benchmark,
                benchmark_digest,
                coalesce(sum(gt_masks) filter (seen), 0)::bigint as seen_masks,
                coalesce(sum(gt_masks) filter (not seen), 0)::bigint as unseen_masks
            from class_scores
            group by benchmark, benchmark_digest
        ) as masks using (benchmark, benchmark_digest)
        order by board.benchmark, board.arm
        """,
    )


def classes(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Each class of each arm: arm, class_id, class_name, seen, iou, accuracy (of masks), masks."""
    return rows(
        con,
        """
        select
            runs.arm, classes.class_id, classes.class_name, classes.seen, classes.iou,
            classes.gt_mask_accuracy as accuracy, classes.gt_masks as masks, classes.gt_pixels
        from benchmark_runs as runs
        inner join class_scores as classes using (benchmark, benchmark_digest)
        where runs.benchmark = $1
        order by runs.arm, classes.class_id
        """,
        [benchmark],
    )


def losses(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """The loss of each arm's last phase: arm, step, loss."""
    return rows(con, "select arm, step, loss from training_log order by arm, step")


def curves(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """Learning curves: benchmark, arm, phase, trains, step, total_step, part, accuracy, masks.

    No row where the run measured none.
    """
    return rows(
        con,
        "select benchmark, arm, phase, trains, step, total_step, part,"
        " gt_mask_accuracy as accuracy, gt_masks as masks from learning_curves"
        " order by benchmark, arm, total_step, phase, part",
    )


def curve_cut(con: duckdb.DuckDBPyConnection, benchmark: str | None) -> str:
    """The images a benchmark's learning curves look at in words; empty where they are all."""
    query = "select config from published where stage = 'curves' and benchmark = $1"
    settings = [json.loads(each["config"]) for each in rows(con, query, [benchmark])]
    limits = [int(setting["limit"]) for setting in settings if setting.get("limit") is not None]
    if not limits:
        return ""
    query = "select max(images) as images from benchmark_runs where benchmark = $1"
    images = row(con, query, [benchmark])["images"]
    if images is None:
        return f"the first {thousands(min(limits))} images"
    cut = f"the first {thousands(min(limits))} of {thousands(images)} images"
    return cut if min(limits) < images else ""


# --------------------------------------------------------------------------------------
# Mistakes


def mask_confusions(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Which class CLIP names as which other, by masks, of the arms that make the mistake."""
    return rows(
        con,
        """
        with names as (
            select distinct class_id, class_name, seen
            from class_scores where benchmark = $1
        )
        select
            runs.arm, truth.class_name, truth.seen, guess.class_name as named,
            count(*) as masks, sum(masks.area_fraction) as images_worth
        from gt_masks as masks
        inner join benchmark_runs as runs using (benchmark, benchmark_digest)
        inner join names as truth on masks.gt_class = truth.class_id
        inner join names as guess on masks.predicted_class = guess.class_id
        where runs.benchmark = $1 and masks.gt_class <> masks.predicted_class
        group by all
        order by masks desc, images_worth desc, runs.arm, truth.class_name, named
        """,
        [benchmark],
    )


def pixel_confusions(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """Which class's pixels a segmentation gives to which other: arm, class_name, named, share.

    The share is of all labelled pixels of the benchmark; pixels without a class are left out.
    """
    return rows(
        con,
        """
        with names as (
            select distinct class_id, class_name, seen
            from class_scores where benchmark = $1
        ),
        cells as (
            select runs.arm, truth.class_name, truth.seen, guess.class_name as named,
                sum(cells.pixels) as pixels
            from confusion as cells
            inner join benchmark_runs as runs using (benchmark, benchmark_digest)
            inner join names as truth on cells.gt_class = truth.class_id
            left join names as guess on cells.predicted_class = guess.class_id
            where runs.benchmark = $1
            group by all
        )
        select * from (
            select arm, class_name, seen, named, pixels::bigint as pixels,
                pixels / sum(pixels) over (partition by arm) as share
            from cells
        )
        where class_name <> named
        order by pixels desc, arm, class_name, named
        """,
        [benchmark],
    )


def worst_masks(con: duckdb.DuckDBPyConnection, benchmark: str, arm: str, limit: int) -> list[Row]:
    """The largest ground-truth masks an arm names wrongly, at most two of one mistake.

    Columns: image_id, gt_class, class_name, seen, named, gt_rank, area_fraction, and what the
    original CLIP named it (`before`, null where it is not among the runs).
    """
    return rows(
        con,
        """
        with names as (
            select distinct class_id, class_name, seen
            from class_scores where benchmark = $1
        ),
        before as (
            select masks.image_id, masks.gt_class, names.class_name as before
            from gt_masks as masks
            inner join benchmark_runs as runs using (benchmark, benchmark_digest)
            inner join names on masks.predicted_class = names.class_id
            where runs.benchmark = $1 and runs.arm = 'original'
        )
        select
            masks.image_id, masks.gt_class, truth.class_name, truth.seen,
            guess.class_name as named, masks.gt_rank, masks.area_fraction, before.before
        from gt_masks as masks
        inner join benchmark_runs as runs using (benchmark, benchmark_digest)
        inner join names as truth on masks.gt_class = truth.class_id
        inner join names as guess on masks.predicted_class = guess.class_id
        left join before
            on masks.image_id = before.image_id and masks.gt_class = before.gt_class
        where runs.benchmark = $1 and runs.arm = $2 and masks.gt_class <> masks.predicted_class
        qualify row_number() over (
            partition by masks.gt_class, masks.predicted_class
            order by masks.area_fraction desc, masks.image_id
        ) <= 2
        order by masks.area_fraction desc, masks.image_id, masks.gt_class
        limit $3
        """,
        [benchmark, arm, limit],
    )


def image_scores(con: duckdb.DuckDBPyConnection, benchmark: str) -> list[Row]:
    """MIoU of each image under each arm, over the classes in its truth or prediction, worst first.

    Columns: arm, image_id, miou, classes.
    """
    return rows(
        con,
        """
        with cells as (
            select runs.arm, classes.k, cells.*
            from confusion as cells
            inner join benchmark_runs as runs using (benchmark, benchmark_digest)
            inner join (
                select max(class_id) + 1 as k from class_scores where benchmark = $1
            ) as classes on cells.gt_class < classes.k
            where runs.benchmark = $1
        ),
        by_class as (
            select arm, image_id, gt_class as class, sum(pixels) as truth, 0 as predicted,
                sum(pixels) filter (gt_class = predicted_class) as hit
            from cells group by all
            union all
            select arm, image_id, predicted_class as class, 0 as truth,
                sum(pixels) as predicted, 0 as hit
            from cells where predicted_class < k group by all
        ),
        ious as (
            select arm, image_id, class,
                coalesce(sum(hit), 0)
                / (sum(truth) + sum(predicted) - coalesce(sum(hit), 0)) as iou
            from by_class group by all
        )
        select arm, image_id, avg(iou) as miou, count(*) as classes
        from ious group by arm, image_id
        order by miou, image_id, arm
        """,
        [benchmark],
    )
