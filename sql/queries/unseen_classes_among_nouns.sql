-- Classes without a mask in training, and how often captions name them.
-- Grain: one row for each (benchmark, dataset, class) that a benchmark run counts as unseen.
--   Columns: benchmark, dataset, class_name, mentions, images, kept_pairs.
with unseen as (
    select distinct
        benchmark,
        class_name
    from class_scores
    where not seen
)

select
    class_exposure.benchmark,
    class_exposure.dataset,
    class_exposure.class_name,
    class_exposure.mentions,
    class_exposure.images,
    class_exposure.kept_pairs
from class_exposure
inner join unseen using (benchmark, class_name)
order by
    class_exposure.benchmark,
    class_exposure.dataset,
    class_exposure.mentions desc,
    class_exposure.class_name
