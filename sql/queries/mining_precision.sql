-- How often the mined mask shows the noun, by ground-truth masks if there are any.
-- Grain: one row for each (dataset, noun) with judged pairs. Columns: dataset, noun, noun_category
--   (null: no category of the ground truth), judged, correct, precision, mean_gt_iou, taken_for
--   (the categories under its wrong masks, most frequent first).
with judged as materialized (
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
),

by_noun as (
    select
        dataset,
        noun,
        max(noun_category) as noun_category,
        count(*) as judged,
        count(*) filter (correct) as correct,
        avg(gt_iou) as mean_gt_iou
    from judged
    group by dataset, noun
)

select
    by_noun.dataset,
    by_noun.noun,
    by_noun.noun_category,
    by_noun.judged,
    by_noun.correct,
    round(by_noun.correct / by_noun.judged, 4) as precision,
    round(by_noun.mean_gt_iou, 4) as mean_gt_iou,
    wrong.taken_for
from by_noun
left join wrong on by_noun.dataset = wrong.dataset and by_noun.noun = wrong.noun
order by by_noun.judged desc, by_noun.dataset, by_noun.noun
