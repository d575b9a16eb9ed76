-- Every kept mined pair: the setting of OVSeg (CVPR 2023), which gates nothing.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- One or five captions an image is decided when the captions are read, or by one_caption.sql.
select
    pair_id,
    noun
from kept_pairs
where source = 'mined'
