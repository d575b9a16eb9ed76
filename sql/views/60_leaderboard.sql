-- The benchmark runs side by side. Fractions in 0..1; miou_union is the headline (as in the paper).
-- Grain: one row for each benchmark run.
-- Columns: benchmark, system, arm, images, oracle, miou_union, miou_union_low, miou_union_high
--   (bounds of its interval over images), miou_gt, both miou with their seen, unseen and harmonic
--   parts, by a published split miou_union_published_seen, miou_union_published_unseen, then fwiou,
--   macc, pacc, boundary_miou_union, miou_gt_small, miou_gt_medium, miou_gt_large (of objects by
--   size), mask_acc (ground-truth masks named correctly) with its parts, mask_acc_top5,
--   mask_threshold, ensemble, ensemble_weight, region, templates, settings (JSON, those that are
--   not the defaults), resize_rule, image_limit, vocabulary_digest, benchmark_digest,
--   checkpoint_digest. Null if a run did not measure it.
select
    runs.benchmark,
    runs.system,
    runs.arm,
    runs.images,
    any_value(scores.oracle) as oracle,
    max(scores.value) filter (scores.metric = 'miou_union') as miou_union,
    max(scores.low) filter (scores.metric = 'miou_union') as miou_union_low,
    max(scores.high) filter (scores.metric = 'miou_union') as miou_union_high,
    max(scores.value) filter (scores.metric = 'miou_union_seen') as miou_union_seen,
    max(scores.value) filter (scores.metric = 'miou_union_unseen') as miou_union_unseen,
    max(scores.value) filter (scores.metric = 'miou_union_harmonic') as miou_union_harmonic,
    max(scores.value) filter (scores.metric = 'miou_gt') as miou_gt,
    max(scores.value) filter (scores.metric = 'miou_gt_seen') as miou_gt_seen,
    max(scores.value) filter (scores.metric = 'miou_gt_unseen') as miou_gt_unseen,
    max(scores.value) filter (scores.metric = 'miou_gt_harmonic') as miou_gt_harmonic,
    max(scores.value) filter (
        scores.metric = 'miou_union_published_seen'
    ) as miou_union_published_seen,
    max(scores.value) filter (
        scores.metric = 'miou_union_published_unseen'
    ) as miou_union_published_unseen,
    max(scores.value) filter (scores.metric = 'fwiou') as fwiou,
    max(scores.value) filter (scores.metric = 'macc') as macc,
    max(scores.value) filter (scores.metric = 'pacc') as pacc,
    max(scores.value) filter (scores.metric = 'boundary_miou_union') as boundary_miou_union,
    max(scores.value) filter (scores.metric = 'miou_gt_small') as miou_gt_small,
    max(scores.value) filter (scores.metric = 'miou_gt_medium') as miou_gt_medium,
    max(scores.value) filter (scores.metric = 'miou_gt_large') as miou_gt_large,
    max(scores.value) filter (scores.metric = 'mask_acc') as mask_acc,
    max(scores.value) filter (scores.metric = 'mask_acc_seen') as mask_acc_seen,
    max(scores.value) filter (scores.metric = 'mask_acc_unseen') as mask_acc_unseen,
    max(scores.value) filter (scores.metric = 'mask_acc_harmonic') as mask_acc_harmonic,
    max(scores.value) filter (scores.metric = 'mask_acc_top5') as mask_acc_top5,
    any_value(scores.mask_threshold) as mask_threshold,
    any_value(scores.ensemble) as ensemble,
    any_value(scores.ensemble_weight) as ensemble_weight,
    any_value(scores.region) as region,
    any_value(scores.templates) as templates,
    any_value(scores.settings) as settings,
    any_value(scores.resize_rule) as resize_rule,
    any_value(scores.image_limit) as image_limit,
    any_value(scores.vocabulary_digest) as vocabulary_digest,
    runs.benchmark_digest,
    runs.checkpoint_digest
from benchmark_runs as runs
left join scores
    on
        runs.benchmark = scores.benchmark
        and runs.benchmark_digest = scores.benchmark_digest
        and runs.arm = scores.arm
group by
    runs.benchmark,
    runs.system,
    runs.arm,
    runs.images,
    runs.benchmark_digest,
    runs.checkpoint_digest
