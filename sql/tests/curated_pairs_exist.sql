-- Training sets are made of pairs of the table, each once. Rows: those that are not, or come twice.
-- (Sets of an older table leave the catalogue with it.)
select
    curated.query,
    curated.curated_digest,
    curated.pair_id,
    count(*) as n
from curated
left join pairs using (pair_id)
group by curated.query, curated.curated_digest, curated.pair_id, pairs.pair_id
having count(*) > 1 or pairs.pair_id is null
