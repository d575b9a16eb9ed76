-- The benchmark runs side by side. Fractions in 0..1; miou_union is the headline (as in the paper).
-- Grain: one row for each benchmark run.
-- Columns: benchmark, arm, images, miou_union and miou_gt with their seen, unseen and harmonic
--   parts, fwiou, macc, pacc, mask_acc (ground-truth masks named rightly) with its parts,
--   benchmark_digest, checkpoint_digest. Null where a run did not measure it.
select
    runs.benchmark,
    runs.arm,
    runs.images,
    max(scores.value) filter (scores.metric = 'miou_union') as miou_union,
    max(scores.value) filter (scores.metric = 'miou_union_seen') as miou_union_seen,
    max(scores.value) filter (scores.metric = 'miou_union_unseen') as miou_union_unseen,
    max(scores.value) filter (scores.metric = 'miou_union_harmonic') as miou_union_harmonic,
    max(scores.value) filter (scores.metric = 'miou_gt') as miou_gt,
    max(scores.value) filter (scores.metric = 'miou_gt_seen') as miou_gt_seen,
    max(scores.value) filter (scores.metric = 'miou_gt_unseen') as miou_gt_unseen,
    max(scores.value) filter (scores.metric = 'miou_gt_harmonic') as miou_gt_harmonic,
    max(scores.value) filter (scores.metric = 'fwiou') as fwiou,
    max(scores.value) filter (scores.metric = 'macc') as macc,
    max(scores.value) filter (scores.metric = 'pacc') as pacc,
    max(scores.value) filter (scores.metric = 'mask_acc') as mask_acc,
    max(scores.value) filter (scores.metric = 'mask_acc_seen') as mask_acc_seen,
    max(scores.value) filter (scores.metric = 'mask_acc_unseen') as mask_acc_unseen,
    max(scores.value) filter (scores.metric = 'mask_acc_harmonic') as mask_acc_harmonic,
    runs.benchmark_digest,
    runs.checkpoint_digest
from benchmark_runs as runs
left join scores
    on
        runs.benchmark = scores.benchmark
        and runs.benchmark_digest = scores.benchmark_digest
        and runs.arm = scores.arm
group by runs.benchmark, runs.arm, runs.images, runs.benchmark_digest, runs.checkpoint_digest
