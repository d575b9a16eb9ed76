-- Kept mined pairs, with an image's compound in place of its head: "picket fence", not "fence".
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair.pair_id,
    pair.noun
from kept_pairs as pair
where
    pair.source = 'mined'
    and not exists (
        select 1
        from kept_pairs as compound
        where
            compound.source = 'mined'
            and compound.dataset = pair.dataset
            and compound.round = pair.round
            and compound.image_id = pair.image_id
            and compound.head = pair.noun
    )
