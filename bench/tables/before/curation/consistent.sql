-- Kept mined pairs that chose each other and are more similar than usual for their noun, without
-- the proposals the network is most confident of.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- Gates: similarity above the mean of the noun's pairs (a noun's correct regions are more similar
-- to it than its wrong ones, whatever the level of its similarities), so that a noun with a single
-- pair has none; proposal score below the highest fifth of the pairs that chose each other. That
-- fifth is what the network was trained on, in great numbers, and nouns without a region end there.
with candidates as (
    select
        pair_id,
        noun,
        mutual_best,
        clip_similarity - avg(clip_similarity) over (partition by noun) as excess,
        percent_rank() over (partition by mutual_best order by proposal_score) as score_rank
    from kept_pairs
    where source = 'mined'
)

select
    pair_id,
    noun
from candidates
where
    mutual_best
    and excess > 0
    and score_rank < 0.8
