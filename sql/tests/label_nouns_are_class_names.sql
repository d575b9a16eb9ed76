-- The noun of a label's pair is a class name of the labelled set, verbatim. Rows: gt_label pairs
-- with another noun, for labelled sets whose class names are known.
-- Severity: warn.
select
    pair_id,
    noun,
    label_set
from (
    select
        pair_id,
        noun,
        split_part(proposal_model, '@', 1) as label_set
    from pairs
    where source = 'gt_label' and noun is not null
) as labelled
where
    label_set in (select benchmark from vocabularies)
    and not exists (
        select 1
        from vocabularies
        where vocabularies.benchmark = label_set and trim(vocabularies.class_name) = noun
    )
