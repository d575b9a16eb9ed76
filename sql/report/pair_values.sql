-- Every mined pair's measures, and whether it is kept and correct.
-- Grain: one row for each mined pair.
-- Columns: clip_similarity, clip_margin, proposal_score, area_fraction, kept, correct (null where
--   the pair was not compared with ground truth).
select
    mined.clip_similarity,
    mined.clip_margin,
    mined.proposal_score,
    mined.area_fraction,
    mined.kept,
    truth.correct
from mined_pairs as mined
left join pair_truth as truth using (pair_id)
