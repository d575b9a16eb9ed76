-- Kept mined pairs whose noun one of the image's first five captions mentions (COCO has up to
-- seven); the paper's Table 2, case 4.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- Captions count in the order of their ids, among those that mention any noun at all.
with captions as (
    select distinct
        dataset,
        image_id,
        mention.caption_id as caption_id
    from (
        select
            dataset,
            image_id,
            unnest(mentions) as mention
        from pairs
        where source = 'mined'
    )
),

first_five as (
    select
        dataset,
        image_id,
        list(caption_id) as caption_ids
    from (
        select
            dataset,
            image_id,
            caption_id
        from captions
        qualify row_number() over (partition by dataset, image_id order by caption_id) <= 5
    )
    group by dataset, image_id
)

select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
inner join first_five using (dataset, image_id)
where
    kept_pairs.source = 'mined'
    and list_has_any(
        list_transform(kept_pairs.mentions, lambda m: m.caption_id), first_five.caption_ids
    )
