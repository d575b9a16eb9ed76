-- Ground-truth masks with their labels, and the mined pairs of the image's first caption; the
-- paper's Table 8.
-- Sources: mined, gt_label.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (the label verbatim, or as mined).
-- The mined part is that of one_caption.sql. A mask may come twice, as a label's and as a noun's.
with first_captions as (
    select
        dataset,
        image_id,
        min(list_min(list_transform(mentions, lambda m: m.caption_id))) as caption_id
    from pairs
    where source = 'mined'
    group by dataset, image_id
)

select
    pair_id,
    noun
from kept_pairs
where source = 'gt_label'
union all
select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
inner join first_captions using (dataset, image_id)
where
    kept_pairs.source = 'mined'
    and list_min(list_transform(kept_pairs.mentions, lambda m: m.caption_id))
    = first_captions.caption_id
