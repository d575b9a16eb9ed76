-- Kept mined pairs whose noun one of the image's first five captions mentions (COCO has up to
-- seven); the paper's Table 2, case 4.
-- Threads: any.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- Captions count in the order of their ids, among those that mention any noun at all.
with captions as (
    select
        dataset,
        image_id,
        caption_id
    from (
        select
            dataset,
            image_id,
            unnest(list_transform(mentions, lambda m: m.caption_id)) as caption_id
        from pairs
        where source = 'mined'
    )
    where caption_id is not null
    group by dataset, image_id, caption_id
),

last_captions as (
    select
        dataset,
        image_id,
        list_max(min(caption_id, 5)) as caption_id
    from captions
    group by dataset, image_id
)

select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
inner join last_captions using (dataset, image_id)
where
    kept_pairs.source = 'mined'
    and list_min(list_transform(kept_pairs.mentions, lambda m: m.caption_id))
    <= last_captions.caption_id
