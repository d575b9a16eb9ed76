-- Where things are lost: images, captions, mentions, proposals and pairs, kept or dropped and why.
-- Grain: one row for each (dataset, source, round, step, outcome); source and round only for
-- pairs. Columns: dataset, source, round, step (order of the funnel), what, outcome ('kept' or
--   the reason), n, share (of the step's n). An image without any proposal counts as one dropped
--   proposal.
with caption_fates as (
    select
        captions.dataset,
        case
            when not captions.image_kept then 'image_dropped'
            when spoken.caption_id is null then 'not_parsed'
            when spoken.kept then 'kept'
            else coalesce(spoken.reason, 'every_noun_dropped')
        end as outcome
    from (
        select
            dataset,
            image_id,
            kept as image_kept,
            unnest(captions).caption_id as caption_id
        from images
    ) as captions
    left join (
        select
            dataset,
            image_id,
            caption_id,
            bool_or(kept) as kept,
            max(drop_reason) filter (noun is null) as reason
        from nouns
        group by dataset, image_id, caption_id
    ) as spoken
        on
            captions.dataset = spoken.dataset
            and captions.image_id = spoken.image_id
            and captions.caption_id = spoken.caption_id
),

steps as (
    select
        dataset,
        null as source,
        null as round,
        1 as step,
        'images' as what,
        if(kept, 'kept', coalesce(split_part(drop_reason, ':', 1), 'no_reason')) as outcome
    from images
    union all
    select
        dataset,
        null as source,
        null as round,
        2 as step,
        'captions' as what,
        outcome
    from caption_fates
    union all
    select
        dataset,
        null as source,
        null as round,
        3 as step,
        'mentions' as what,
        if(kept, 'kept', coalesce(split_part(drop_reason, ':', 1), 'no_reason')) as outcome
    from nouns
    where noun is not null
    union all
    select
        dataset,
        null as source,
        null as round,
        4 as step,
        'proposals' as what,
        if(kept, 'kept', coalesce(split_part(drop_reason, ':', 1), 'no_reason')) as outcome
    from proposals
    union all
    select
        dataset,
        source,
        round,
        5 as step,
        'pairs' as what,
        if(kept, 'kept', coalesce(split_part(drop_reason, ':', 1), 'no_reason')) as outcome
    from pairs
)

select
    dataset,
    source,
    round,
    step,
    what,
    outcome,
    count(*) as n,
    count(*) / sum(count(*)) over (partition by dataset, source, round, step) as share
from steps
group by dataset, source, round, step, what, outcome
