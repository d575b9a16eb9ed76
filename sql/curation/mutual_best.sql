-- Kept mined pairs that chose each other: the noun likes this proposal best, and it likes the noun.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
select
    pair_id,
    noun
from kept_pairs
where source = 'mined' and mutual_best
