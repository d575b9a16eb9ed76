-- Which class CLIP names as which other, by masks, of the arms that make the mistake.
-- Grain: one row for each (arm, class, named); $1 is the benchmark.
-- Columns: arm, class_name, seen, named, masks, images_worth (sum of the masks' area fractions).
with names as (
    select distinct
        class_id,
        class_name,
        seen
    from class_scores
    where benchmark = $1
)

select
    runs.arm,
    truth.class_name,
    truth.seen,
    guess.class_name as named,
    count(*) as masks,
    sum(masks.area_fraction) as images_worth
from gt_masks as masks
inner join benchmark_runs as runs using (benchmark, benchmark_digest)
inner join names as truth on masks.gt_class = truth.class_id
inner join names as guess on masks.predicted_class = guess.class_id
where runs.benchmark = $1 and masks.gt_class <> masks.predicted_class
group by all
order by masks desc, images_worth desc, runs.arm, truth.class_name, named
