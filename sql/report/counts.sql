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
)

select
    (select count(*) from images) as images,
    (select coalesce(sum(len(captions)), 0)::bigint from images) as captions,
    (select count(*) from nouns where noun is not null) as mentions,
    (select count(distinct noun) from nouns where kept) as nouns,
    (select count(*) from proposals where kept) as proposals,
    mined.pairs,
    mined.kept,
    mined.kept_nouns,
    (select count(*) from pair_truth) as judged,
    (select count(*) from pair_truth where correct) as right_pairs,
    (select count(noun_category) from pair_truth) as named
from mined
