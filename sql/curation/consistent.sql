-- Kept mined pairs that chose each other, more alike than is usual for their noun, without the
-- proposals the network is surest of.
-- Grain: one row for each pair. Columns: pair_id, noun (as mined).
-- Gates: similarity above the mean of the noun's pairs (a noun's right regions are more alike to it
-- than its wrong ones, whatever the level of its similarities), so that a noun with a single pair
-- has none; proposal score below the highest fifth of the pairs that chose each other. Those are
-- what the network was trained on, in great numbers, and a noun it has no region for ends there.
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
