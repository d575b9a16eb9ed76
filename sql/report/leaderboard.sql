-- Every arm's scores on every benchmark, with their 95 % intervals over the images. In 0..1.
-- Grain: one row for each benchmark run.
-- Columns: benchmark, arm, images, then of mask_acc_seen, mask_acc_unseen, miou_union_seen,
--   miou_union_unseen and miou_union the value, low and high. Null where a run did not measure it.
select
    runs.benchmark,
    runs.arm,
    runs.images,
    max(scores.value) filter (scores.metric = 'mask_acc_seen') as mask_acc_seen,
    max(scores.low) filter (scores.metric = 'mask_acc_seen') as mask_acc_seen_low,
    max(scores.high) filter (scores.metric = 'mask_acc_seen') as mask_acc_seen_high,
    max(scores.value) filter (scores.metric = 'mask_acc_unseen') as mask_acc_unseen,
    max(scores.low) filter (scores.metric = 'mask_acc_unseen') as mask_acc_unseen_low,
    max(scores.high) filter (scores.metric = 'mask_acc_unseen') as mask_acc_unseen_high,
    max(scores.value) filter (scores.metric = 'miou_union_seen') as miou_union_seen,
    max(scores.low) filter (scores.metric = 'miou_union_seen') as miou_union_seen_low,
    max(scores.high) filter (scores.metric = 'miou_union_seen') as miou_union_seen_high,
    max(scores.value) filter (scores.metric = 'miou_union_unseen') as miou_union_unseen,
    max(scores.low) filter (scores.metric = 'miou_union_unseen') as miou_union_unseen_low,
    max(scores.high) filter (scores.metric = 'miou_union_unseen') as miou_union_unseen_high,
    max(scores.value) filter (scores.metric = 'miou_union') as miou_union,
    max(scores.low) filter (scores.metric = 'miou_union') as miou_union_low,
    max(scores.high) filter (scores.metric = 'miou_union') as miou_union_high
from benchmark_runs as runs
left join scores using (benchmark, benchmark_digest, arm)
group by runs.benchmark, runs.arm, runs.images, runs.benchmark_digest
order by runs.benchmark, runs.arm
