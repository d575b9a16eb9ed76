-- Every pair_id identifies one pair. Rows: other pair ids, with their number of pairs.
-- Severity: error.
select
    pair_id,
    count(*) as n
from pairs
group by pair_id
having count(*) > 1 or pair_id is null
