-- The outcomes of each step, kept ones first.
-- Grain: one row for each (step, what, outcome).
-- Columns: step, what, outcome, n, share (of the step).
select
    step,
    what,
    outcome,
    sum(n)::bigint as n,
    sum(n) / sum(sum(n)) over (partition by step) as share
from gate_funnel
group by step, what, outcome
order by step, outcome <> 'kept', n desc, outcome
