-- Areas are shares of the image, in 0..1. Rows: masks with any other area.
-- Severity: error.
select
    'proposals' as relation,
    image_id,
    proposal_id,
    area_fraction
from proposals
where not area_fraction between 0 and 1 or isnan(area_fraction)
union all
select
    'pairs' as relation,
    image_id,
    proposal_id,
    area_fraction
from pairs
where not area_fraction between 0 and 1 or isnan(area_fraction)
