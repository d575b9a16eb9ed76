-- The counts of each step, from captions to correct pairs.
-- Grain: one row.
-- Columns: images, captions, mentions, nouns (distinct, kept), proposals (kept), pairs, kept,
--   kept_nouns, judged (0 without ground truth), right_pairs, named.
with mined as (
    select
        count(*) as pairs,
        count(*) filter (kept) as kept,
        count(distinct noun) filter (kept) as kept_nouns
    from mined_pairs
),

truth as (
    select
        count(*) as judged,
        count(*) filter (correct) as right_pairs,
        count(noun_category) as named
    from pair_truth
),

spoken as (
    select
        count(noun) as mentions,
        count(distinct noun) filter (kept) as nouns
    from nouns
)

select
    (select count(*) from images) as images,
    (select coalesce(sum(len(captions)), 0)::bigint from images) as captions,
    spoken.mentions,
    spoken.nouns,
    (select count(*) from proposals where kept) as proposals,
    mined.pairs,
    mined.kept,
    mined.kept_nouns,
    truth.judged,
    truth.right_pairs,
    truth.named
from mined
cross join truth
cross join spoken
