-- The training set that each curation query selected.
-- Grain: one row for each (query, curated_digest). Columns: query, curated_digest, pairs, nouns,
--   images, mean_similarity, top_nouns (the five most frequent).
with trained as materialized (
    select
        query,
        curated_digest,
        dataset,
        image_id,
        noun,
        clip_similarity
    from training_pairs
),

counted as (
    select
        query,
        curated_digest,
        noun,
        count(*) as n
    from trained
    group by query, curated_digest, noun
),

tops as (
    select
        query,
        curated_digest,
        count(noun) as nouns,
        list(noun order by n desc, noun)[1:5] as top_nouns
    from counted
    group by query, curated_digest
),

shown as (
    select
        query,
        curated_digest,
        count(*) as images
    from (
        select distinct
            query,
            curated_digest,
            dataset,
            image_id
        from trained
    )
    group by query, curated_digest
),

sets as (
    select
        query,
        curated_digest,
        count(*) as pairs,
        round(avg(clip_similarity), 4) as mean_similarity
    from trained
    group by query, curated_digest
)

select
    query,
    curated_digest,
    sets.pairs,
    tops.nouns,
    shown.images,
    sets.mean_similarity,
    tops.top_nouns
from sets
inner join tops using (query, curated_digest)
inner join shown using (query, curated_digest)
order by query, curated_digest
