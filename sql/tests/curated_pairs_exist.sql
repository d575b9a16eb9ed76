-- Training sets are made of pairs of the table, each once. Rows: those that are not, or come twice.
-- A curated set of an older table shows here: curate again.
select
    curated.query,
    curated.curated_digest,
    curated.pair_id,
    count(*) as n
from curated
left join pairs using (pair_id)
group by curated.query, curated.curated_digest, curated.pair_id, pairs.pair_id
having count(*) > 1 or pairs.pair_id is null
