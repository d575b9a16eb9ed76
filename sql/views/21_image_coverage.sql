-- The counts of each image, from captions to kept pairs (mined, latest round).
-- Grain: one row for each (dataset, image_id) of the source, dropped images included.
-- Columns: dataset, image_id, image_path, image_kept, captions, nouns (distinct, kept), proposals
--   (kept), pairs, kept_pairs, covered_fraction (areas of the distinct proposals of kept pairs
--   added up, at most 1: an upper bound of the share of pixels, as proposals may overlap).
-- Stored in the catalog.
with noun_counts as (
    select
        dataset,
        image_id,
        count(distinct noun) filter (kept) as nouns
    from nouns
    group by dataset, image_id
),

proposal_counts as (
    select
        dataset,
        image_id,
        count(*) filter (kept) as proposals
    from proposals
    group by dataset, image_id
),

pair_counts as (
    select
        dataset,
        image_id,
        count(*) as pairs,
        count(*) filter (kept) as kept_pairs
    from mined_pairs
    group by dataset, image_id
),

areas as (
    select
        dataset,
        image_id,
        least(1.0, sum(area_fraction)) as covered_fraction
    from (
        select distinct
            dataset,
            image_id,
            proposal_id,
            area_fraction
        from mined_pairs
        where kept
    )
    group by dataset, image_id
)

select
    images.dataset,
    images.image_id,
    images.image_path,
    images.kept as image_kept,
    coalesce(len(images.captions), 0) as captions,
    coalesce(noun_counts.nouns, 0) as nouns,
    coalesce(proposal_counts.proposals, 0) as proposals,
    coalesce(pair_counts.pairs, 0) as pairs,
    coalesce(pair_counts.kept_pairs, 0) as kept_pairs,
    coalesce(areas.covered_fraction, 0.0) as covered_fraction
from images
left join noun_counts using (dataset, image_id)
left join proposal_counts using (dataset, image_id)
left join pair_counts using (dataset, image_id)
left join areas using (dataset, image_id)
