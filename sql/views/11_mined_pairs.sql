-- Mined pairs of each data set's latest round, dropped ones included, without the mask.
-- Grain: one row for each (dataset, image_id, noun).
-- Columns: those of `pairs` that describe the pair, its quality, and its outcome.
select
    pair_id,
    dataset,
    round,
    image_id,
    noun,
    head,
    mentions,
    proposal_id,
    area_fraction,
    proposal_score,
    clip_similarity,
    clip_margin,
    noun_rank,
    proposal_rank,
    mutual_best,
    kept,
    drop_reason
from pairs
where source = 'mined'
qualify round = max(round) over (partition by dataset)
