-- Which class's pixels a benchmark run labels as which other class.
-- Grain: one row for each (benchmark, system, arm, class, predicted class) with wrong pixels.
-- Columns: benchmark, system, arm, class_name, predicted, pixels, share (of the class's pixels),
--   images (with such pixels). A pixel left without a class counts under '(none)'; ignored pixels
--   do not count.
with names as (
    select distinct
        benchmark,
        benchmark_digest,
        class_id,
        class_name
    from class_scores
),

counted as (
    select
        benchmark,
        benchmark_digest,
        gt_class,
        predicted_class,
        sum(pixels)::bigint as pixels,
        count(distinct image_id) as images,
        sum(sum(pixels)) over (partition by benchmark, benchmark_digest, gt_class) as class_pixels
    from confusion
    group by benchmark, benchmark_digest, gt_class, predicted_class
)

select
    runs.benchmark,
    runs.system,
    runs.arm,
    truth.class_name,
    coalesce(guess.class_name, '(none)') as predicted,
    counted.pixels,
    counted.pixels / counted.class_pixels as share,
    counted.images
from counted
inner join benchmark_runs as runs using (benchmark, benchmark_digest)
inner join names as truth
    on
        counted.benchmark = truth.benchmark
        and counted.benchmark_digest = truth.benchmark_digest
        and counted.gt_class = truth.class_id
left join names as guess
    on
        counted.benchmark = guess.benchmark
        and counted.benchmark_digest = guess.benchmark_digest
        and counted.predicted_class = guess.class_id
where counted.gt_class <> counted.predicted_class
