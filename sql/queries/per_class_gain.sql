-- The effect of training on each class: every arm against the original CLIP in the same system.
-- Grain: one row for each (benchmark, system, arm, class) of the arms other than `original`.
--   Columns: benchmark, system, arm, class_name, seen, original_iou, iou, iou_gain, mask_acc_gain,
--   gt_masks, mentions. Fractions; a gain is null where either run has no value.
with by_arm as (
    select
        runs.benchmark,
        runs.system,
        runs.arm,
        classes.class_name,
        classes.seen,
        classes.iou,
        classes.gt_mask_accuracy,
        classes.gt_masks
    from benchmark_runs as runs
    inner join class_scores as classes using (benchmark, benchmark_digest)
),

exposure as (
    select
        benchmark,
        class_name,
        sum(mentions)::bigint as mentions
    from class_exposure
    group by benchmark, class_name
)

select
    trained.benchmark,
    trained.system,
    trained.arm,
    trained.class_name,
    trained.seen,
    round(original.iou, 4) as original_iou,
    round(trained.iou, 4) as iou,
    round(trained.iou - original.iou, 4) as iou_gain,
    round(trained.gt_mask_accuracy - original.gt_mask_accuracy, 4) as mask_acc_gain,
    trained.gt_masks,
    exposure.mentions
from by_arm as trained
inner join by_arm as original
    on
        trained.benchmark = original.benchmark
        and trained.system = original.system
        and trained.class_name = original.class_name
        and original.arm = 'original'
left join exposure
    on trained.benchmark = exposure.benchmark and trained.class_name = exposure.class_name
where trained.arm <> 'original'
order by
    trained.benchmark,
    trained.system,
    trained.arm,
    iou_gain desc nulls last,
    trained.class_name
