-- A mention's characters are those of the published caption. Rows: mentions that differ.
-- A mention is cut out of its caption if that is short. In long captions, and where a mention seems
-- to differ, it is compared with the pieces of 1000 characters it lies in: cutting it out of the
-- whole caption takes longer the further back it is.
-- Severity: error.
with captions as not materialized (
    select
        dataset,
        image_id,
        unnest(captions, recursive := true)
    from images
),

spoken as (
    select distinct
        nouns.dataset,
        nouns.image_id,
        nouns.caption_id,
        nouns.surface,
        nouns.char_start,
        nouns.char_end
    from nouns
    inner join captions using (dataset, image_id, caption_id)
    where
        nouns.noun is not null
        and nouns.surface is not null
        and not coalesce(
            case
                when strlen(captions.text) > 4000 then false
                when nouns.char_start < 0 then false
                when length(nouns.surface) != nouns.char_end - nouns.char_start then false
                else captions.text[nouns.char_start + 1:nouns.char_end] = nouns.surface
            end,
            false
        )
),

pieces as (
    select
        dataset,
        image_id,
        caption_id,
        unnest(regexp_extract_all(text, '(?s).{1,1000}')) as piece,
        generate_subscripts(regexp_extract_all(text, '(?s).{1,1000}'), 1) - 1 as number
    from captions
    semi join spoken using (dataset, image_id, caption_id)
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
