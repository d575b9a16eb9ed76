-- Which class's pixels are labelled as which other class; pixels without a class are left out.
-- Grain: one row for each (arm, class, named); $1 is the benchmark.
-- Columns: arm, class_name, seen, named, pixels, share (of all labelled pixels of the benchmark).
with names as (
    select distinct
        class_id,
        class_name,
        seen
    from class_scores
    where benchmark = $1
),

counted as (
    select
        runs.arm,
        truth.class_name,
        truth.seen,
        guess.class_name as named,
        sum(cells.pixels) as pixels
    from confusion as cells
    inner join benchmark_runs as runs using (benchmark, benchmark_digest)
    inner join names as truth on cells.gt_class = truth.class_id
    left join names as guess on cells.predicted_class = guess.class_id
    where runs.benchmark = $1
    group by all
),

shares as (
    select
        arm,
        class_name,
        seen,
        named,
        pixels::bigint as pixels,
        pixels / sum(pixels) over (partition by arm) as share
    from counted
)

select
    arm,
    class_name,
    seen,
    named,
    pixels,
    share
from shares
where class_name <> named
order by pixels desc, arm, class_name, named
