-- The counts of each step, from captions to correct pairs.
-- Grain: one row.
-- Columns: images, captions, mentions, nouns (distinct, kept), proposals (kept), pairs, kept,
--   kept_nouns, judged (0 without ground truth), right_pairs, named.
select
    (select count(*) from images) as images,
    (select coalesce(sum(captions), 0)::bigint from image_coverage) as captions,
    (select count(*) from nouns where noun is not null) as mentions,
    (select count(distinct noun) from nouns where kept) as nouns,
    (select count(*) from proposals where kept) as proposals,
    (select count(*) from mined_pairs) as pairs,
    (select count(*) from mined_pairs where kept) as kept,
    (select count(distinct noun) from mined_pairs where kept) as kept_nouns,
    (select count(*) from pair_truth) as judged,
    (select count(*) from pair_truth where correct) as right_pairs,
    (select count(noun_category) from pair_truth) as named
