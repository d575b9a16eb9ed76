-- mutual_best means that noun and proposal rank first for each other. Rows: contradicting pairs.
-- Severity: error.
select
    pair_id,
    mutual_best,
    noun_rank,
    proposal_rank
from pairs
where coalesce(mutual_best, false) <> coalesce(noun_rank = 1 and proposal_rank = 1, false)
