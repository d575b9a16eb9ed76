-- The benchmark runs, best first: miou_union is the headline, in 0..1.
-- Grain: one row for each benchmark run. Columns: benchmark, system, arm, images, miou_union,
--   miou_gt, miou_union_seen, miou_union_unseen, mask_acc, mask_acc_seen, mask_acc_unseen, low and
--   high (the 95 % interval of miou_union over images), boundary (boundary_miou_union), oracle.
select
    benchmark,
    system,
    arm,
    images,
    round(miou_union, 4) as miou_union,
    round(miou_gt, 4) as miou_gt,
    round(miou_union_seen, 4) as miou_union_seen,
    round(miou_union_unseen, 4) as miou_union_unseen,
    round(mask_acc, 4) as mask_acc,
    round(mask_acc_seen, 4) as mask_acc_seen,
    round(mask_acc_unseen, 4) as mask_acc_unseen,
    round(miou_union_low, 4) as low,
    round(miou_union_high, 4) as high,
    round(boundary_miou_union, 4) as boundary,
    oracle
from leaderboard
order by benchmark, miou_union desc nulls last, system, arm
