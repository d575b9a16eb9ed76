-- One pair for each (source, dataset, round, image_id, noun). Rows: grains with more.
-- Severity: error.
select
    source,
    dataset,
    round,
    image_id,
    noun,
    count(*) as n
from pairs
group by source, dataset, round, image_id, noun
having count(*) > 1
