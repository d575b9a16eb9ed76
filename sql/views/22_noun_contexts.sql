-- How often captions describe a noun by which adjective or place.
-- Grain: one row for each (dataset, noun, kind, context) of kept mentions. Columns: dataset, noun,
--   kind (adjective, place), context (red; on the grass), mentions.
-- Stored in the catalog.
with said as (
    select
        dataset,
        noun,
        'adjective' as kind,
        unnest(adjectives) as context
    from nouns
    where kept

    union all

    select
        dataset,
        noun,
        'place' as kind,
        place as context
    from nouns
    where kept and place is not null
)

select
    dataset,
    noun,
    kind,
    context,
    count(*) as mentions
from said
group by dataset, noun, kind, context
