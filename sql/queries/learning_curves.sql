-- The learning curves: each arm's ground-truth mask accuracy by step, seen next to unseen.
-- Grain: one row for each (benchmark, arm, phase, step). Columns: benchmark, arm, phase, trains,
--   step, total_step, seen, unseen, all_classes (accuracies in 0..1), gain (of all_classes since
--   before the arm's first step).
select
    benchmark,
    arm,
    phase,
    trains,
    step,
    total_step,
    round(max(gt_mask_accuracy) filter (part = 'seen'), 4) as seen,
    round(max(gt_mask_accuracy) filter (part = 'unseen'), 4) as unseen,
    round(max(gt_mask_accuracy) filter (part = 'all'), 4) as all_classes,
    round(max(gain) filter (part = 'all'), 4) as gain
from learning_curves
group by benchmark, arm, phase, trains, step, total_step
order by benchmark, arm, phase, step
