-- Kept pairs on which CLIP was least decided: the second-best proposal is almost as similar.
-- Grain: one row for each pair. Columns: dataset, image_id, noun, clip_margin, clip_similarity,
--   noun_rank, proposal_score, area_fraction, pair_id. A noun with one proposal only has no margin.
select
    dataset,
    image_id,
    noun,
    clip_margin,
    clip_similarity,
    noun_rank,
    proposal_score,
    area_fraction,
    pair_id
from mined_pairs
where kept and clip_margin is not null
order by clip_margin, pair_id
