-- Learning curves: the share of ground-truth masks named correctly, by optimizer step of each arm.
-- Grain: one row for each (benchmark, arm, phase, step, part).
-- Columns: benchmark, arm, phase (from 1), trains (image_encoder, mask_prompts, joint), step
--   (within the phase; 0 is the CLIP it started from), total_step (over the arm's phases), part
--   (seen, unseen, all classes), gt_mask_accuracy in 0..1 (null without masks), gt_masks (how
--   many), gain (gt_mask_accuracy minus that before the arm's first step).
select
    benchmark,
    arm,
    phase,
    trains,
    step,
    total_step,
    part,
    gt_mask_accuracy,
    gt_masks,
    gt_mask_accuracy - first_value(gt_mask_accuracy) over (
        partition by benchmark, arm, part order by phase, step
    ) as gain
from curve_points
