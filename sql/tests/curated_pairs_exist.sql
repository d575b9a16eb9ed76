-- Training sets consist of pairs of the table, each once. Rows: other pairs and duplicates.
-- (Sets of an older table leave the catalog with it.)
-- Severity: error.
select
    curated.query,
    curated.curated_digest,
    curated.pair_id,
    count(*) as n
from curated
left join pairs using (pair_id)
group by curated.query, curated.curated_digest, curated.pair_id, pairs.pair_id
having count(*) > 1 or pairs.pair_id is null
