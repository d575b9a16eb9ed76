-- A class that a benchmark counts as unseen lends no ground-truth mask to a training set. Rows:
-- training pairs of such a mask, by the label, and of nouns by the class that proposal_id numbers.
select
    training.query,
    training.pair_id,
    training.source,
    classes.benchmark,
    classes.class_name
from training_pairs as training
inner join pairs using (pair_id)
inner join class_scores as classes
    on
        (
            training.source = 'gt_label'
            and trim(regexp_replace(lower(pairs.noun), '[\s_-]+', ' ', 'g'))
            = trim(regexp_replace(lower(classes.class_name), '[\s_-]+', ' ', 'g'))
        )
        or (
            training.source = 'gt_noun'
            and classes.benchmark = split_part(pairs.proposal_model, '@', 1)
            and classes.class_id = pairs.proposal_id
        )
where classes.seen is false
