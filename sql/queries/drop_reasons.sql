-- Why things were dropped, at each step from images to pairs.
-- Grain: one row for each (dataset, source, round, step, reason). Columns: dataset, source,
--   round, what, reason, n, share (of the step).
select
    dataset,
    source,
    round,
    what,
    outcome as reason,
    n,
    round(share, 4) as share
from gate_funnel
where outcome <> 'kept'
order by dataset, step, source, round, n desc, reason
