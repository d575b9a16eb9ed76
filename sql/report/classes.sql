-- Each class of each arm of a benchmark.
-- Grain: one row for each (arm, class); $1 is the benchmark.
-- Columns: arm, class_id, class_name, seen, iou, accuracy (of masks), masks, gt_pixels.
select
    runs.arm,
    classes.class_id,
    classes.class_name,
    classes.seen,
    classes.iou,
    classes.gt_mask_accuracy as accuracy,
    classes.gt_masks as masks,
    classes.gt_pixels
from benchmark_runs as runs
inner join class_scores as classes using (benchmark, benchmark_digest)
where runs.benchmark = $1
order by runs.arm, classes.class_id
