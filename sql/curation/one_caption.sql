-- Kept mined pairs whose noun the image's first caption mentions: the paper's one-caption setting,
-- Table 2, case 3.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- The first caption is the lowest caption_id among the mentions of all the image's pairs, dropped
-- ones included; a caption without nouns mentions nothing and is skipped.
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
inner join first_captions using (dataset, image_id)
where
    kept_pairs.source = 'mined'
    and list_contains(
        list_transform(kept_pairs.mentions, lambda m: m.caption_id), first_captions.caption_id
    )
