-- Kept mined pairs of single nouns: of a compound only its head ("fence" of "picket fence").
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair_id,
    noun
from kept_pairs
where source = 'mined' and head is null
