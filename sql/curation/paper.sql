-- Every kept mined pair: the setting of OVSeg (CVPR 2023), which has no gates.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- The number of captions per image is set when the captions are read, or by one_caption.sql.
select
    pair_id,
    noun
from kept_pairs
where source = 'mined'
