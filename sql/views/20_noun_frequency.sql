-- How often captions name a noun, and its pairs (mined, latest round).
-- Grain: one row for each (dataset, noun), including stop nouns.
-- Columns: dataset, noun, is_compound, head (of a compound), mentions and images (of the noun, in
--   all captions), kept_mentions, pairs, kept_pairs, mean_similarity (cosine, of kept pairs).
-- Stored in the catalog.
with mentioned as (
    select
        dataset,
        noun,
        max(head) as head,
        count(*) as mentions,
        count(*) filter (kept) as kept_mentions,
        count(distinct image_id) as images
    from nouns
    where noun is not null
    group by dataset, noun
),

paired as (
    select
        dataset,
        noun,
        max(head) as head,
        count(*) as pairs,
        count(*) filter (kept) as kept_pairs,
        avg(clip_similarity) filter (kept) as mean_similarity
    from mined_pairs
    group by dataset, noun
)

select
    dataset,
    noun,
    coalesce(mentioned.head, paired.head) is not null as is_compound,
    coalesce(mentioned.head, paired.head) as head,
    coalesce(mentioned.mentions, 0) as mentions,
    coalesce(mentioned.images, 0) as images,
    coalesce(mentioned.kept_mentions, 0) as kept_mentions,
    coalesce(paired.pairs, 0) as pairs,
    coalesce(paired.kept_pairs, 0) as kept_pairs,
    paired.mean_similarity
from mentioned
full outer join paired using (dataset, noun)
