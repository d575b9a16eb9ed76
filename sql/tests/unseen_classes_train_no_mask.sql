-- A class that a benchmark counts as unseen has no ground-truth mask in a training set. Rows:
-- training pairs with such a mask: labels by name, nouns by the class number in proposal_id.
-- Severity: error.
with unseen as (
    select
        benchmark,
        class_id,
        class_name,
        trim(regexp_replace(lower(class_name), '[\s_-]+', ' ', 'g')) as label
    from class_scores
    where seen is false
),

training as (
    select
        training_pairs.query,
        training_pairs.pair_id,
        training_pairs.source,
        trim(regexp_replace(lower(pairs.noun), '[\s_-]+', ' ', 'g')) as label,
        split_part(pairs.proposal_model, '@', 1) as label_set,
        pairs.proposal_id
    from training_pairs
    inner join pairs using (pair_id)
)

select
    training.query,
    training.pair_id,
    training.source,
    unseen.benchmark,
    unseen.class_name
from training
inner join unseen using (label)
where training.source = 'gt_label'
union all
select
    training.query,
    training.pair_id,
    training.source,
    unseen.benchmark,
    unseen.class_name
from training
inner join unseen
    on training.label_set = unseen.benchmark and training.proposal_id = unseen.class_id
where training.source = 'gt_noun'
