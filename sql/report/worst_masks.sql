-- The largest ground-truth masks that an arm misclassifies, at most two per mistake.
-- Grain: one row for each mask; $1 is the benchmark, $2 the arm, $3 how many.
-- Columns: image_id, gt_class, class_name, seen, named, gt_rank, area_fraction, before (the
--   name by the original CLIP; null if it is not among the runs).
with names as (
    select distinct
        class_id,
        class_name,
        seen
    from class_scores
    where benchmark = $1
),

before as (
    select
        masks.image_id,
        masks.gt_class,
        names.class_name as before
    from gt_masks as masks
    inner join benchmark_runs as runs using (benchmark, benchmark_digest)
    inner join names on masks.predicted_class = names.class_id
    where runs.benchmark = $1 and runs.arm = 'original'
)

select
    masks.image_id,
    masks.gt_class,
    truth.class_name,
    truth.seen,
    guess.class_name as named,
    masks.gt_rank,
    masks.area_fraction,
    before.before
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
