-- How much of each step is kept: images, captions, mentions, proposals, pairs.
-- Grain: one row for each (dataset, source, round, step). Columns: dataset, source, round, what, n,
--   kept, kept_share, main_reason (the most frequent drop reason).
select
    dataset,
    source,
    round,
    what,
    sum(n)::bigint as n,
    coalesce(sum(n) filter (outcome = 'kept'), 0)::bigint as kept,
    round(coalesce(sum(share) filter (outcome = 'kept'), 0), 4) as kept_share,
    arg_max(outcome, n) filter (outcome <> 'kept') as main_reason
from gate_funnel
group by dataset, source, round, step, what
order by dataset, step, source, round
