-- A mention's characters are those of the published caption. Rows: mentions that differ.
-- Captions are split into pieces of 1000 characters, and a mention is compared with the pieces it
-- lies in: cutting it out of the whole caption takes longer the further back it is.
with spoken as (
    select distinct
        dataset,
        image_id,
        caption_id,
        surface,
        char_start,
        char_end
    from nouns
    where noun is not null and surface is not null
),

captions as (
    select
        dataset,
        image_id,
        unnest(captions, recursive := true)
    from images
),

pieces as (
    select
        dataset,
        image_id,
        caption_id,
        unnest(regexp_extract_all(text, '(?s).{1,1000}')) as piece,
        generate_subscripts(regexp_extract_all(text, '(?s).{1,1000}'), 1) - 1 as number
    from captions
),

parts as (
    select
        spoken.dataset,
        spoken.image_id,
        spoken.caption_id,
        spoken.surface,
        spoken.char_start,
        spoken.char_end,
        unnest(
            range(char_start // 1000, greatest(char_start, char_end - 1) // 1000 + 1)
        ) as number
    from spoken
    semi join captions using (dataset, image_id, caption_id)
)

select distinct
    parts.dataset,
    parts.image_id,
    parts.caption_id,
    parts.surface,
    parts.char_start,
    parts.char_end
from parts
left join pieces using (dataset, image_id, caption_id, number)
where
    parts.char_start < 0
    or length(parts.surface) <> parts.char_end - parts.char_start
    or coalesce(
        pieces.piece[
            greatest(parts.char_start - parts.number * 1000, 0) + 1
            :least(parts.char_end - parts.number * 1000, 1000)
        ],
        ''
    )
    <> parts.surface[
        greatest(parts.number * 1000 - parts.char_start, 0) + 1
        :(parts.number + 1) * 1000 - parts.char_start
    ]
