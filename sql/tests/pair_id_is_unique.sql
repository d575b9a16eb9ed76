-- Every pair_id names one pair. Rows: pair ids that do not, with how many pairs carry them.
select
    pair_id,
    count(*) as n
from pairs
group by pair_id
having count(*) > 1 or pair_id is null
