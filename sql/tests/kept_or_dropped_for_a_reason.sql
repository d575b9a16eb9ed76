-- A row of any stage is either kept or has a drop reason. Rows: those with neither or both.
-- Severity: error.
select
    'images' as relation,
    image_id,
    null as item,
    kept,
    drop_reason
from images
where kept is null or kept = (drop_reason is not null)
union all
select
    'nouns' as relation,
    image_id,
    noun as item,
    kept,
    drop_reason
from nouns
where kept is null or kept = (drop_reason is not null)
union all
select
    'proposals' as relation,
    image_id,
    proposal_id::varchar as item,
    kept,
    drop_reason
from proposals
where kept is null or kept = (drop_reason is not null)
union all
select
    'pairs' as relation,
    image_id,
    noun as item,
    kept,
    drop_reason
from pairs
where kept is null or kept = (drop_reason is not null)
