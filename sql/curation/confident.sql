-- Kept mined pairs that CLIP and the proposal network are confident of.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- Gates: similarity and margin above the lowest quarter of all kept mined pairs (cosines of two
-- CLIPs are not comparable, quantiles are), proposal score at least 0.5. A noun with a single
-- proposal has no margin and passes on the other two.
with gates as (
    select
        quantile_cont(clip_similarity, 0.25) as similarity,
        quantile_cont(clip_margin, 0.25) as margin
    from kept_pairs
    where source = 'mined'
)

select
    kept_pairs.pair_id,
    kept_pairs.noun
from kept_pairs
cross join gates
where
    kept_pairs.source = 'mined'
    and kept_pairs.clip_similarity >= gates.similarity
    and (kept_pairs.clip_margin >= gates.margin or kept_pairs.clip_margin is null)
    and kept_pairs.proposal_score >= 0.5
