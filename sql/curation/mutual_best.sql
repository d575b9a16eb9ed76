-- Kept mined pairs that chose each other: each is the best match of the other.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair_id,
    noun
from kept_pairs
where source = 'mined' and mutual_best
