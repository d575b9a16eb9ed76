-- Images that were read but gave no pair, with their counts at each step.
-- Grain: one row for each (dataset, image_id). Columns: dataset, image_id, image_path, captions,
--   nouns, proposals, pairs (all dropped).
select
    dataset,
    image_id,
    image_path,
    captions,
    nouns,
    proposals,
    pairs
from image_coverage
where image_kept and kept_pairs = 0
order by dataset, image_id
