-- Kept mined pairs of compounds ("picket fence"), without single nouns.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair_id,
    noun
from kept_pairs
where source = 'mined' and head is not null
