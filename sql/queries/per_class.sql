-- Every class of a benchmark by system and arm: IoU, that of its boundary, by size of objects.
-- Grain: one row for each (benchmark, system, arm, class). Columns: benchmark, system, arm,
--   class_id, class_name, seen, published_seen, iou, accuracy, boundary_iou, iou_small, iou_medium,
--   iou_large, gt_pixels, predicted_pixels, gt_masks, gt_mask_accuracy, gt_mask_top5. In 0..1; null
--   where not defined.
select
    runs.benchmark,
    runs.system,
    runs.arm,
    classes.class_id,
    classes.class_name,
    classes.seen,
    classes.published_seen,
    round(classes.iou, 4) as iou,
    round(classes.accuracy, 4) as accuracy,
    round(classes.boundary_iou, 4) as boundary_iou,
    round(classes.iou_small, 4) as iou_small,
    round(classes.iou_medium, 4) as iou_medium,
    round(classes.iou_large, 4) as iou_large,
    classes.gt_pixels,
    classes.predicted_pixels,
    classes.gt_masks,
    round(classes.gt_mask_accuracy, 4) as gt_mask_accuracy,
    round(classes.gt_mask_top5, 4) as gt_mask_top5
from benchmark_runs as runs
inner join class_scores as classes using (benchmark, benchmark_digest)
order by runs.benchmark, runs.system, runs.arm, classes.class_id
