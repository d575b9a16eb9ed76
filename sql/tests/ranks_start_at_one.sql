-- Ranks count from 1. Rows: pairs with a rank below.
-- Severity: error.
select
    pair_id,
    noun_rank,
    proposal_rank
from pairs
where noun_rank < 1 or proposal_rank < 1
