-- Ground-truth masks with the nouns of the image's first caption: clean masks, open vocabulary; the
-- paper's Table 2, case 2.
-- Sources: gt_noun.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (from the caption).
-- The first caption is the lowest caption_id among the mentions of all the image's pairs, dropped
-- ones included, as in one_caption.sql.
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
        where source = 'gt_noun'
    )
    group by dataset, image_id
)

select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
inner join first_captions using (dataset, image_id)
where
    kept_pairs.source = 'gt_noun'
    and list_contains(
        list_transform(kept_pairs.mentions, lambda m: m.caption_id), first_captions.caption_id
    )
