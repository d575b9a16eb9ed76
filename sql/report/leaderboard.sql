-- Every arm's scores on every benchmark, with how many masks they were counted over.
-- Grain: one row for each benchmark run.
-- Columns: those of the view leaderboard, seen_masks, unseen_masks.
select
    board.benchmark,
    board.system,
    board.arm,
    board.images,
    board.oracle,
    board.miou_union,
    board.miou_union_low,
    board.miou_union_high,
    board.miou_union_seen,
    board.miou_union_unseen,
    board.miou_union_harmonic,
    board.miou_gt,
    board.miou_gt_seen,
    board.miou_gt_unseen,
    board.miou_gt_harmonic,
    board.miou_union_published_seen,
    board.miou_union_published_unseen,
    board.fwiou,
    board.macc,
    board.pacc,
    board.boundary_miou_union,
    board.miou_gt_small,
    board.miou_gt_medium,
    board.miou_gt_large,
    board.mask_acc,
    board.mask_acc_seen,
    board.mask_acc_unseen,
    board.mask_acc_harmonic,
    board.mask_acc_top5,
    board.mask_threshold,
    board.ensemble,
    board.ensemble_weight,
    board.region,
    board.templates,
    board.settings,
    board.resize_rule,
    board.image_limit,
    board.vocabulary_digest,
    board.benchmark_digest,
    board.checkpoint_digest,
    masks.seen_masks,
    masks.unseen_masks
from leaderboard as board
left join (
    select
        benchmark,
        benchmark_digest,
        coalesce(sum(gt_masks) filter (seen), 0)::bigint as seen_masks,
        coalesce(sum(gt_masks) filter (not seen), 0)::bigint as unseen_masks
    from class_scores
    group by benchmark, benchmark_digest
) as masks using (benchmark, benchmark_digest)
order by board.benchmark, board.arm
