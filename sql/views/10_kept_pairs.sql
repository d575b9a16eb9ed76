-- The pairs that no gate dropped: the input of curation queries.
-- Grain: one row for each (source, dataset, round, image_id, noun) that was kept.
-- Columns: those of `pairs`, without kept and drop_reason.
select
    pair_id,
    source,
    dataset,
    round,
    image_id,
    noun,
    image_path,
    image_sha256,
    image_phash,
    width,
    height,
    mentions,
    head,
    parser,
    proposal_id,
    mask_size,
    mask_counts,
    bbox_xyxy,
    area_fraction,
    proposal_score,
    clip_similarity,
    clip_margin,
    noun_rank,
    proposal_rank,
    mutual_best,
    proposal_model,
    clip_model,
    config_digest,
    shard
from pairs
where kept
