-- Ground-truth masks with their labels, a closed vocabulary; the paper's Table 2, case 1.
-- Sources: gt_label.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (the label, verbatim).
select
    pair_id,
    noun
from kept_pairs
where source = 'gt_label'
