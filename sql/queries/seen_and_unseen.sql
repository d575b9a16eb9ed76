-- Each arm on classes with and without masks in training.
-- Grain: one row for each (benchmark, system, arm, seen). Columns: benchmark, system, arm, seen,
--   classes (of the list), miou_union (over classes in ground truth or prediction), miou_gt (in
--   ground truth), mask_acc (ground-truth masks named correctly), mentions (of the classes, in
--   captions). In 0..1.
with exposure as (
    select
        benchmark,
        class_name,
        sum(mentions)::bigint as mentions
    from class_exposure
    group by benchmark, class_name
)

select
    runs.benchmark,
    runs.system,
    runs.arm,
    classes.seen,
    count(*) as classes,
    avg(classes.iou order by classes.class_id) as miou_union,
    avg(classes.iou order by classes.class_id) filter (classes.gt_pixels > 0) as miou_gt,
    sum(classes.gt_mask_accuracy * classes.gt_masks order by classes.class_id)
    / nullif(sum(classes.gt_masks) filter (classes.gt_mask_accuracy is not null), 0) as mask_acc,
    sum(exposure.mentions)::bigint as mentions
from benchmark_runs as runs
inner join class_scores as classes using (benchmark, benchmark_digest)
left join exposure using (benchmark, class_name)
group by runs.benchmark, runs.system, runs.arm, classes.seen
order by runs.benchmark, runs.system, runs.arm, classes.seen desc
