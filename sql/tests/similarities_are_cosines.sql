-- Similarities are cosines, in -1..1 up to float32 rounding, and a margin is not negative (the
-- paired proposal is the best). Rows: pairs that violate this.
-- Severity: error.
select
    pair_id,
    clip_similarity,
    clip_margin
from pairs
where
    not clip_similarity between -1.00001 and 1.00001
    or isnan(clip_similarity)
    or (proposal_rank = 1 and clip_margin < 0)
