-- Learning curves; no rows if the run measured none.
-- Grain: one row for each (benchmark, arm, phase, step, part).
-- Columns: benchmark, arm, phase, trains, step, total_step, part, accuracy (of ground-truth masks),
--   masks.
select
    benchmark,
    arm,
    phase,
    trains,
    step,
    total_step,
    part,
    gt_mask_accuracy as accuracy,
    gt_masks as masks
from learning_curves
order by benchmark, arm, total_step, phase, part
