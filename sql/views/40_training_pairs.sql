-- The training sets: each curated pair with its attributes, under its training noun.
-- Grain: one row for each (query, curated_digest, pair_id).
-- Columns: query, curated_digest, pair_id, source, dataset, round, image_id, image_path,
--   noun (as trained), mined_noun (as in the table), head, area_fraction, proposal_score,
--   clip_similarity, clip_margin, mutual_best.
select
    curated.query,
    curated.curated_digest,
    pairs.pair_id,
    pairs.source,
    pairs.dataset,
    pairs.round,
    pairs.image_id,
    pairs.image_path,
    curated.noun,
    pairs.noun as mined_noun,
    pairs.head,
    pairs.area_fraction,
    pairs.proposal_score,
    pairs.clip_similarity,
    pairs.clip_margin,
    pairs.mutual_best
from curated
inner join pairs using (pair_id)
