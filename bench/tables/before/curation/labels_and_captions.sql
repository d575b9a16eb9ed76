-- Ground-truth masks with their labels, and the mined pairs of the image's first caption; the
-- paper's Table 8.
-- Sources: mined, gt_label.
-- Grain: one row for each pair. Columns: pair_id, noun (the label verbatim, or as mined).
-- The mined part is that of one_caption.sql. A mask may come twice, as a label's and as a noun's.
with first_captions as (
    select
        dataset,
        image_id,
        min(mention.caption_id) as caption_id
    from (
        select
            dataset,
            image_id,
            unnest(mentions) as mention
        from pairs
        where source = 'mined'
    )
    group by dataset, image_id
)

select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
left join first_captions using (dataset, image_id)
where
    kept_pairs.source = 'gt_label'
    or (
        kept_pairs.source = 'mined'
        and list_contains(
            list_transform(kept_pairs.mentions, lambda m: m.caption_id), first_captions.caption_id
        )
    )
