-- The loss of each arm's last phase.
-- Grain: one row for each (arm, step). Columns: arm, step, loss.
select
    arm,
    step,
    loss
from training_log
order by arm, step
