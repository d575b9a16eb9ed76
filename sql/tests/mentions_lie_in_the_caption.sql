-- A mention's characters are those of the published caption. Rows: mentions of which that is not
-- so.
select
    nouns.dataset,
    nouns.image_id,
    nouns.caption_id,
    nouns.surface,
    nouns.char_start,
    nouns.char_end
from nouns
inner join (
    select
        dataset,
        image_id,
        unnest(captions, recursive := true)
    from images
) as captions using (dataset, image_id, caption_id)
where
    nouns.noun is not null
    and captions.text[nouns.char_start + 1:nouns.char_end] <> nouns.surface
