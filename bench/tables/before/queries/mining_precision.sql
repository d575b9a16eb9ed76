-- How often the mined mask shows the noun, by ground-truth masks if there are any.
-- Grain: one row for each (dataset, noun) with judged pairs. Columns: dataset, noun, noun_category
--   (null: no category of the ground truth), judged, correct, precision, mean_gt_iou, taken_for
--   (the categories under its wrong masks, most frequent first).
with judged as (
    select
        pairs.dataset,
        truth.noun,
        truth.noun_category,
        truth.gt_category,
        truth.gt_iou,
        truth.correct
    from pair_truth as truth
    inner join pairs using (pair_id)
),

wrong as (
    select
        dataset,
        noun,
        list(gt_category order by n desc, gt_category)[1:3] as taken_for
    from (
        select
            dataset,
            noun,
            gt_category,
            count(*) as n
        from judged
        where not correct and gt_category is not null
        group by dataset, noun, gt_category
    )
    group by dataset, noun
)

select
    judged.dataset,
    judged.noun,
    max(judged.noun_category) as noun_category,
    count(*) as judged,
    count(*) filter (judged.correct) as correct,
    round(count(*) filter (judged.correct) / count(*), 4) as precision,
    round(avg(judged.gt_iou), 4) as mean_gt_iou,
    max(wrong.taken_for) as taken_for
from judged
left join wrong on judged.dataset = wrong.dataset and judged.noun = wrong.noun
group by judged.dataset, judged.noun
order by judged desc, judged.dataset, judged.noun
