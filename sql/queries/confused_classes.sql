-- Which class's pixels a benchmark run gives to which other class.
-- Grain: one row for each (benchmark, arm, class, predicted class) with wrong pixels. Columns:
--   benchmark, arm, class_name, predicted, pixels, share (of the class's pixels), images. A pixel
--   left without a class counts under '(none)'; ignored pixels do not count.
with names as (
    select distinct
        benchmark,
        benchmark_digest,
        class_id,
        class_name
    from class_scores
),

pixels as (
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
    runs.arm,
    truth.class_name,
    coalesce(guess.class_name, '(none)') as predicted,
    pixels.pixels,
    round(pixels.pixels / pixels.class_pixels, 4) as share,
    pixels.images
from pixels
inner join benchmark_runs as runs using (benchmark, benchmark_digest)
inner join names as truth
    on
        pixels.benchmark = truth.benchmark
        and pixels.benchmark_digest = truth.benchmark_digest
        and pixels.gt_class = truth.class_id
left join names as guess
    on
        pixels.benchmark = guess.benchmark
        and pixels.benchmark_digest = guess.benchmark_digest
        and pixels.predicted_class = guess.class_id
where pixels.gt_class <> pixels.predicted_class
order by pixels.pixels desc, runs.benchmark, runs.arm, truth.class_name, predicted
