-- Every mined pair's measures, and whether it is kept and correct.
-- Grain: one row for each mined pair.
-- Columns: clip_similarity, clip_margin, proposal_score, area_fraction, kept, correct (null where
--   the pair was not compared with ground truth).
select
    pairs.clip_similarity,
    pairs.clip_margin,
    pairs.proposal_score,
    pairs.area_fraction,
    pairs.kept,
    truth.correct
from mined_pairs as pairs
left join pair_truth as truth using (pair_id)
