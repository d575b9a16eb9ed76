-- The training set that each curation query selected.
-- Grain: one row for each (query, curated_digest). Columns: query, curated_digest, pairs, nouns,
--   images, mean_similarity, top_nouns (the five most frequent).
with counted as (
    select
        query,
        curated_digest,
        noun,
        count(*) as n
    from training_pairs
    group by query, curated_digest, noun
),

tops as (
    select
        query,
        curated_digest,
        list(noun order by n desc, noun)[1:5] as top_nouns
    from counted
    group by query, curated_digest
)

select
    training_pairs.query,
    training_pairs.curated_digest,
    count(*) as pairs,
    count(distinct training_pairs.noun) as nouns,
    count(distinct (training_pairs.dataset, training_pairs.image_id)) as images,
    round(avg(training_pairs.clip_similarity), 4) as mean_similarity,
    max(tops.top_nouns) as top_nouns
from training_pairs
inner join tops using (query, curated_digest)
group by training_pairs.query, training_pairs.curated_digest
order by training_pairs.query, training_pairs.curated_digest
