-- Ground-truth masks with the caption noun that fits them best: clean masks, open vocabulary.
-- Grain: one row for each pair. Columns: pair_id, noun (from the captions).
select
    pair_id,
    noun
from kept_pairs
where source = 'gt_noun'
