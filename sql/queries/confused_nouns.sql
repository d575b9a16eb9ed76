-- Nouns that lose their best proposal to another noun of the image, and to which: the proposal that
-- suits this noun best suits the other one better (noun_rank above 1).
-- Grain: one row for each (dataset, noun, winner). Columns: dataset, noun, winner, images, share
--   (of the noun's pairs), related (one is a compound of the other: not a real confusion),
--   mean_similarity, winner_similarity.
with noun_pairs as (
    select
        dataset,
        noun,
        count(*) as pairs
    from mined_pairs
    group by dataset, noun
)

select
    loser.dataset,
    loser.noun,
    winner.noun as winner,
    count(*) as images,
    round(count(*) / max(noun_pairs.pairs), 4) as share,
    bool_or(loser.head = winner.noun or winner.head = loser.noun) is true as related,
    round(avg(loser.clip_similarity), 4) as mean_similarity,
    round(avg(winner.clip_similarity), 4) as winner_similarity
from mined_pairs as loser
inner join mined_pairs as winner
    on
        loser.dataset = winner.dataset
        and loser.image_id = winner.image_id
        and loser.proposal_id = winner.proposal_id
        and loser.noun <> winner.noun
        and winner.noun_rank = 1
inner join noun_pairs
    on loser.dataset = noun_pairs.dataset and loser.noun = noun_pairs.noun
where loser.noun_rank > 1
group by loser.dataset, loser.noun, winner.noun
order by images desc, loser.dataset, loser.noun, winner
