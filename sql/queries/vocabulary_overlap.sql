-- How much of each benchmark's class list the captions' nouns cover, by name or synonym.
-- Grain: one row for each (benchmark, dataset). Columns: benchmark, dataset, classes, named (in
--   some caption), paired (with a kept mined pair), paired_share, kept_pairs (of class words),
--   never_paired (the first few classes without a pair).
select
    benchmark,
    dataset,
    count(*) as classes,
    count(*) filter (mentions > 0) as named,
    count(*) filter (kept_pairs > 0) as paired,
    round(count(*) filter (kept_pairs > 0) / count(*), 4) as paired_share,
    sum(kept_pairs)::bigint as kept_pairs,
    (list(class_name order by class_id) filter (kept_pairs = 0))[1:8] as never_paired
from class_exposure
group by benchmark, dataset
order by benchmark, dataset
