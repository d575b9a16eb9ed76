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
        clip_similarity,
        proposal_score
    from kept_pairs
    where source = 'mined'
),

usual as (
    select
        noun,
        avg(clip_similarity) as similarity
    from candidates
    group by noun
),

gate as (
    select
        mutual_best,
        max(proposal_score) as score,
        bool_or(proposal_score is null) as unscored
    from (
        select
            mutual_best,
            proposal_score,
            percent_rank() over (order by proposal_score) as score_rank
        from candidates
        where mutual_best
    )
    where score_rank < 0.8
    group by mutual_best
)

select
    candidates.pair_id,
    candidates.noun
from candidates
inner join usual on candidates.noun is not distinct from usual.noun
inner join gate using (mutual_best)
where
    candidates.clip_similarity - usual.similarity > 0
    and (
        candidates.proposal_score <= gate.score
        or (candidates.proposal_score is null and gate.unscored)
    )
