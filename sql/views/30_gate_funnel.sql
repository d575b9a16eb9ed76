-- Where things are lost: images, captions, mentions, proposals and pairs, kept or dropped and why.
-- Grain: one row for each (dataset, source, round, step, outcome); source and round only for
-- pairs. Columns: dataset, source, round, step (order of the funnel), what, outcome ('kept' or
--   the reason), n, share (of the step's n). An image without any proposal counts as one dropped
--   proposal.
-- Stored in the catalog.
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

counted as (
    select
        dataset,
        null as source,
        null as round,
        1 as step,
        'images' as what,
        if(kept, 'kept', coalesce(drop_reason, 'no_reason')) as outcome,
        count(*) as n
    from images
    group by dataset, kept, drop_reason
    union all
    select
        dataset,
        null as source,
        null as round,
        2 as step,
        'captions' as what,
        outcome,
        count(*) as n
    from caption_fates
    group by dataset, outcome
    union all
    select
        dataset,
        null as source,
        null as round,
        3 as step,
        'mentions' as what,
        if(kept, 'kept', coalesce(drop_reason, 'no_reason')) as outcome,
        count(*) as n
    from nouns
    where noun is not null
    group by dataset, kept, drop_reason
    union all
    select
        dataset,
        null as source,
        null as round,
        4 as step,
        'proposals' as what,
        if(kept, 'kept', coalesce(drop_reason, 'no_reason')) as outcome,
        count(*) as n
    from proposals
    group by dataset, kept, drop_reason
    union all
    select
        dataset,
        source,
        round,
        5 as step,
        'pairs' as what,
        if(kept, 'kept', coalesce(drop_reason, 'no_reason')) as outcome,
        count(*) as n
    from pairs
    group by dataset, source, round, kept, drop_reason
)

select
    dataset,
    source,
    round,
    step,
    what,
    if(step = 2, outcome, split_part(outcome, ':', 1)) as outcome,
    sum(n)::bigint as n,
    sum(n) / sum(sum(n)) over (partition by dataset, source, round, step) as share
from counted
group by dataset, source, round, step, what, if(step = 2, outcome, split_part(outcome, ':', 1))
