-- At most 100 kept mined pairs per noun, those with the best similarity: flattens the head of the
-- long tail.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair_id,
    noun
from kept_pairs
where source = 'mined'
qualify row_number() over (partition by noun order by clip_similarity desc, pair_id) <= 100
