-- Ground-truth masks with their labels: the paper's closed-vocabulary comparison.
-- Grain: one row for each pair. Columns: pair_id, noun (the label).
select
    pair_id,
    noun
from kept_pairs
where source = 'gt_label'
