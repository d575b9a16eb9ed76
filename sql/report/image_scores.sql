-- mIoU of each image under each arm, over the classes in its truth or prediction, worst first.
-- Grain: one row for each (arm, image); $1 is the benchmark.
-- Columns: arm, image_id, miou, classes.
-- Added in the order of the classes: the last digit must not depend on threads.
with known as (
    select distinct class_id from class_scores
    where benchmark = $1
),

cells as (
    select
        runs.arm,
        counted.image_id,
        counted.gt_class,
        counted.predicted_class,
        counted.pixels
    from confusion as counted
    inner join benchmark_runs as runs using (benchmark, benchmark_digest)
    where runs.benchmark = $1 and counted.gt_class in (select class_id from known)
),

by_class as (
    select
        arm,
        image_id,
        gt_class as class,
        sum(pixels) as truth,
        0 as predicted,
        sum(pixels) filter (gt_class = predicted_class) as hit
    from cells
    group by all
    union all
    select
        arm,
        image_id,
        predicted_class as class,
        0 as truth,
        sum(pixels) as predicted,
        0 as hit
    from cells
    where predicted_class in (select class_id from known)
    group by all
),

ious as (
    select
        arm,
        image_id,
        class,
        coalesce(sum(hit), 0)
        / (sum(truth) + sum(predicted) - coalesce(sum(hit), 0)) as iou
    from by_class
    group by all
)

select
    arm,
    image_id,
    avg(iou order by class) as miou,
    count(*) as classes
from ious
group by arm, image_id
order by miou, image_id, arm
