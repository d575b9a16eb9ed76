-- Images that were read but gave no pair, with their counts at each step.
-- Grain: one row for each (dataset, image_id). Columns: dataset, image_id, image_path, captions,
--   nouns, proposals, pairs (all dropped).
with empty_ones as (
    select
        dataset,
        image_id,
        image_path,
        coalesce(len(captions), 0) as captions
    from images
    anti join (
        select
            dataset,
            image_id
        from mined_pairs
        where kept
    ) using (dataset, image_id)
    where kept
),

noun_counts as (
    select
        dataset,
        image_id,
        count(distinct noun) as nouns
    from nouns
    semi join empty_ones using (dataset, image_id)
    where kept
    group by dataset, image_id
),

proposal_counts as (
    select
        dataset,
        image_id,
        count(*) as proposals
    from proposals
    semi join empty_ones using (dataset, image_id)
    where kept
    group by dataset, image_id
),

pair_counts as (
    select
        dataset,
        image_id,
        count(*) as pairs
    from mined_pairs
    semi join empty_ones using (dataset, image_id)
    group by dataset, image_id
)

select
    dataset,
    image_id,
    empty_ones.image_path,
    empty_ones.captions,
    coalesce(noun_counts.nouns, 0) as nouns,
    coalesce(proposal_counts.proposals, 0) as proposals,
    coalesce(pair_counts.pairs, 0) as pairs
from empty_ones
left join noun_counts using (dataset, image_id)
left join proposal_counts using (dataset, image_id)
left join pair_counts using (dataset, image_id)
order by dataset, image_id
